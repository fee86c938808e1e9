"""Prodigy at a constant factor."""

from benchmarks.practice.entrant import Entrant, rival, trained


def make(model, steps, rate, f_star):
    return rival("prodigyopt", "Prodigy")(trained(model), lr=1.0), None


entrant = Entrant(
    name="prodigy",
    label="Prodigy",
    family="rival",
    make=make,
    package="prodigyopt",
    about="prodigyopt 1.1.2 with its defaults",
)

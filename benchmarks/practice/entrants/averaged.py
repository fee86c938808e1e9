"""A trial form: beta 0.9, c0 0.1, the distance of z."""

from benchmarks.practice.averaged import Averaged
from benchmarks.practice.entrant import Entrant


def make(model, steps, rate, f_star):
    return Averaged(model, f_star), None


entrant = Entrant(
    name="averaged",
    label="averaged",
    family="trial",
    make=make,
    loss="watch",
    order=1,
    about="beta 0.9, c0 0.1, the distance of z",
)

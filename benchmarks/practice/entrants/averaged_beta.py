"""A trial form: beta 0.8, c0 0.1, the distance of z."""

from benchmarks.practice.averaged import Averaged
from benchmarks.practice.entrant import Entrant


def make(model, steps, rate, f_star):
    return Averaged(model, f_star, beta=0.8), None


entrant = Entrant(
    name="averaged_beta",
    label="averaged, beta 0.8",
    family="trial",
    make=make,
    loss="watch",
    order=1,
    about="beta 0.8, c0 0.1, the distance of z",
)

"""A trial form: beta 0.9, c0 0.15, the distance of x, factor 2 on its limit."""

from benchmarks.practice.averaged import Averaged
from benchmarks.practice.entrant import Entrant


def make(model, steps, rate, f_star):
    return Averaged(model, f_star, c0=0.15, factor=2.0, distance="x"), None


entrant = Entrant(
    name="averaged_x",
    label="averaged, distance of x",
    family="trial",
    make=make,
    loss="watch",
    order=1,
    about="beta 0.9, c0 0.15, the distance of x, factor 2 on its limit",
)

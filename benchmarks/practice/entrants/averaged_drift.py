"""A trial form: beta 0.9, c0 0.1, the distance of z, and the drift limit with tau 10."""

from benchmarks.practice.averaged import Averaged
from benchmarks.practice.entrant import Entrant


def make(model, steps, rate, f_star):
    return Averaged(model, f_star, drift=10.0), None


entrant = Entrant(
    name="averaged_drift",
    label="averaged, drift 10",
    family="trial",
    make=make,
    loss="watch",
    order=1,
    twice=True,
    about="beta 0.9, c0 0.1, the distance of z, and the drift limit with tau 10",
)

"""CLR, limited by the measured drift."""

from benchmarks.practice.entrant import Entrant, trained

from corridor import CLR


def make(model, steps, rate, f_star):
    return CLR(trained(model), f_star=f_star or 0.0, drift=1.0), None


entrant = Entrant(
    name="clr_drift",
    label="CLR, drift 1",
    family="ours",
    make=make,
    loss="watch",
    twice=True,
    about="corridor.CLR with drift=1; the lower bound is 0 where none is known",
)

"""CLR with its default cap."""

from benchmarks.practice.entrant import Entrant, trained

from corridor import CLR


def make(model, steps, rate, f_star):
    return CLR(trained(model), f_star=f_star or 0.0), None


entrant = Entrant(
    name="clr",
    label="CLR",
    family="ours",
    make=make,
    loss="step",
    about="corridor.CLR with its defaults; the lower bound is 0 where none is known",
)

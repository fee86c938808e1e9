"""CLRAdam as it stands today."""

from benchmarks.practice.entrant import Entrant, trained

from corridor import CLRAdam


def make(model, steps, rate, f_star):
    return CLRAdam(trained(model), f_star=f_star or 0.0), None


entrant = Entrant(
    name="clr_adam",
    label="CLRAdam",
    family="ours",
    make=make,
    loss="watch",
    order=1,
    twice=True,
    about="corridor.CLRAdam with its defaults; the lower bound is 0 where none is known",
)

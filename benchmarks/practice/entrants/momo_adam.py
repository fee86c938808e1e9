"""MoMo-Adam at the rate that its authors advise."""

from benchmarks.practice.entrant import Entrant, rival, trained


def make(model, steps, rate, f_star):
    return rival("momo", "MomoAdam")(trained(model), lr=1e-2, lb=f_star or 0.0), None


entrant = Entrant(
    name="momo_adam",
    label="MoMo-Adam",
    family="rival",
    make=make,
    loss="step",
    package="momo",
    about="momo-opt 0.1.0, rate 1e-2; the lower bound is 0 where none is known",
)

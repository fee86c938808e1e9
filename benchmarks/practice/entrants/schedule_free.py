"""Schedule-free AdamW at the rate that its authors advise."""

from benchmarks.practice.entrant import WARMUP, Entrant, rival, trained


def make(model, steps, rate, f_star):
    kind = rival("schedulefree", "AdamWScheduleFree")
    return kind(trained(model), lr=2.5e-3, warmup_steps=round(WARMUP * steps)), None


entrant = Entrant(
    name="schedule_free",
    label="Schedule-free AdamW",
    family="rival",
    make=make,
    order=1,
    package="schedulefree",
    about="schedulefree 1.4.1, rate 2.5e-3 (its default), warm-up over 5 % of the steps",
)

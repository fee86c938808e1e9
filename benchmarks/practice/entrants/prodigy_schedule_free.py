"""Prodigy with schedule-free averages."""

from benchmarks.practice.entrant import Entrant, rival, trained


def make(model, steps, rate, f_star):
    return rival("prodigyplus", "ProdigyPlusScheduleFree")(trained(model), split_groups=False), None


entrant = Entrant(
    name="prodigy_schedule_free",
    label="Prodigy+ScheduleFree",
    family="rival",
    make=make,
    order=1,
    package="prodigyplus",
    about="prodigy-plus-schedule-free 2.0.1 with its defaults (there is one group of parameters)",
)

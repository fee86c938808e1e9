"""D-Adaptation in Adam's metric."""

from benchmarks.practice.entrant import Entrant, rival, trained, warmup_cosine


def make(model, steps, rate, f_star):
    optimizer = rival("dadaptation", "DAdaptAdam")(trained(model), lr=1.0)
    return optimizer, warmup_cosine(optimizer, steps)


entrant = Entrant(
    name="dadaptation",
    label="D-Adaptation Adam",
    family="rival",
    make=make,
    package="dadaptation",
    about="dadaptation 3.2 with its defaults and the usual schedule, as its authors advise: "
    "warm-up over 5 % of the steps, cosine to zero",
)

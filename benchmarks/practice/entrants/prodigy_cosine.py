"""Prodigy with a cosine, as its authors advise."""

from benchmarks.practice.entrant import Entrant, rival, trained, warmup_cosine


def make(model, steps, rate, f_star):
    optimizer = rival("prodigyopt", "Prodigy")(trained(model), lr=1.0)
    return optimizer, warmup_cosine(optimizer, steps, warmup=0.0)


entrant = Entrant(
    name="prodigy_cosine",
    label="Prodigy, cosine",
    family="rival",
    make=make,
    package="prodigyopt",
    about="prodigyopt 1.1.2 with its defaults, cosine to zero without warm-up",
)

"""SGD with momentum, tuned."""

import torch
from benchmarks.practice.entrant import Entrant, trained, warmup_cosine


def make(model, steps, rate, f_star):
    optimizer = torch.optim.SGD(trained(model), lr=rate, momentum=0.9)
    return optimizer, warmup_cosine(optimizer, steps)


entrant = Entrant(
    name="sgd_cosine",
    label="SGD with momentum, tuned",
    family="tuned",
    make=make,
    rates=(0.01, 0.03, 0.1, 0.3, 1.0),
    about="momentum 0.9, no weight decay; warm-up over 5 % of the steps, cosine to zero",
)

"""AdamW with warm-up and cosine: the yardstick."""

import torch
from benchmarks.practice.entrant import Entrant, trained, warmup_cosine


def make(model, steps, rate, f_star):
    optimizer = torch.optim.AdamW(trained(model), lr=rate)
    return optimizer, warmup_cosine(optimizer, steps)


entrant = Entrant(
    name="adamw_cosine",
    label="AdamW, tuned",
    family="yardstick",
    make=make,
    rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    order=0,
    about="torch.optim.AdamW with its defaults; warm-up over 5 % of the steps, cosine to zero",
)

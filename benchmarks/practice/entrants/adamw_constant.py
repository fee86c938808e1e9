"""AdamW at its default rate."""

import torch
from benchmarks.practice.entrant import Entrant, trained


def make(model, steps, rate, f_star):
    return torch.optim.AdamW(trained(model), lr=1e-3), None


entrant = Entrant(
    name="adamw_constant",
    label="AdamW, constant 1e-3",
    family="rival",
    make=make,
    about="torch.optim.AdamW as it comes",
)

"""torch.optim.Muon for hidden matrices and AdamW for the rest, tuned."""

import torch
from benchmarks.practice.entrant import Entrant, trained, warmup_cosine
from benchmarks.practice.matrices import flat, hidden
from torch import nn


class MuonAndAdamW(torch.optim.Optimizer):
    """Move hidden matrices by Muon, flattened convolutions among them, all else by AdamW.

    The groups of both optimizers are the groups of this one, so that one scheduler scales both.
    """

    def __init__(self, model, lr):
        self.hidden = hidden(model)
        own = {id(p) for p in self.hidden}
        # These share the memory of the parameters.
        self.flat = [nn.Parameter(flat(p.detach())) for p in self.hidden]
        rest = [p for p in trained(model) if id(p) not in own]
        self.parts = [torch.optim.AdamW(rest, lr=lr)] if rest else []
        if self.flat:
            muon = torch.optim.Muon(self.flat, lr=lr, adjust_lr_fn="match_rms_adamw")
            self.parts.append(muon)
        super().__init__([*rest, *self.flat], {"lr": lr})
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none=True):
        """Clear the gradients, of the matrices that share memory too."""
        super().zero_grad(set_to_none)
        for p in self.hidden:
            p.grad = None

    def step(self):
        """Take one step of both."""
        for p, matrix in zip(self.hidden, self.flat, strict=True):
            matrix.grad = None if p.grad is None else flat(p.grad)
        for part in self.parts:
            part.step()


def make(model, steps, rate, f_star):
    optimizer = MuonAndAdamW(model, rate)
    return optimizer, warmup_cosine(optimizer, steps)


entrant = Entrant(
    name="muon_cosine",
    label="Muon and AdamW, tuned",
    family="tuned",
    make=make,
    rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    order=1,
    about="torch.optim.Muon with adjust_lr_fn='match_rms_adamw', the rate shared with AdamW; "
    "hidden matrices only, convolutions flattened",
)

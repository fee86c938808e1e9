"""The three sequences of schedule-free methods, in slow plain code.

z moves fast, x is its average, and ``y = (1 - beta) z + beta x`` is where the gradient is taken. y
lies in the parameters during training, x after `eval` (arXiv 2405.15682).
"""

from __future__ import annotations

import torch
from benchmarks.practice.entrant import copies, trained
from torch import Tensor, nn


class Sequences:
    """Hold the trained parameters of a network as z, x and y.

    Args:
        model: its trained parameters are moved.
        beta: weight of the average in y, in [0, 1).
    """

    def __init__(self, model: nn.Module, beta: float) -> None:
        self.params, self.beta, self.t = trained(model), beta, 0
        self.z, self.x = copies(self.params), copies(self.params)

    def gradients(self) -> list[Tensor]:
        """Return the gradients at y, zero for a parameter without one."""
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]

    def zero_grad(self) -> None:
        """Set the gradients to None."""
        for p in self.params:
            p.grad = None

    def average(self, share: float) -> None:
        """Move x by a share of the way to z, and put y into the parameters."""
        for z, x in zip(self.z, self.x, strict=True):
            x.add_(z - x, alpha=share)
        self.train()

    @torch.no_grad()
    def eval(self) -> None:
        """Put the average x into the parameters."""
        for p, x in zip(self.params, self.x, strict=True):
            p.copy_(x)

    @torch.no_grad()
    def train(self) -> None:
        """Put y into the parameters."""
        for p, z, x in zip(self.params, self.z, self.x, strict=True):
            p.copy_((1 - self.beta) * z + self.beta * x)

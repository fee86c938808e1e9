"""The slow twin of `CLR`, in the paper's notation: the oracle of the tests, not exported.

Plain Python on float64 vectors, one line a formula, no recursion: the momentum model keeps every
point, loss and gradient it has seen and sums them by their weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class ReferenceCLR:
    """CLR over groups of vectors.

    Args:
        theta: one float64 vector a group; moved by `step`.
        max_lr: one cap a group.
        f_star: lower bound of the loss.
        scale: factor on the uncapped step.
        beta: momentum.
        decay: one decoupled weight decay a group.
    """

    def __init__(
        self,
        theta: list[Tensor],
        max_lr: list[float],
        f_star: float = 0.0,
        scale: float = 1.0,
        beta: float = 0.0,
        decay: list[float] | None = None,
    ) -> None:
        self.theta = [t.clone() for t in theta]
        self.max_lr, self.f_star, self.scale, self.beta = max_lr, f_star, scale, beta
        self.decay = decay or [0.0] * len(theta)
        self.points: list[list[Tensor]] = []
        self.losses: list[float] = []
        self.gradients: list[list[Tensor]] = []
        self.h = [0.0] * len(theta)

    def step(self, E: float, g: list[Tensor]) -> None:
        """One step from the loss E and its gradient g, one vector a group."""
        self.h = [0.0] * len(self.theta)
        if not math.isfinite(E) or not all(bool(x.isfinite().all()) for x in g):
            return
        self.points.append([t.clone() for t in self.theta])
        self.losses.append(E)
        self.gradients.append([x.clone() for x in g])
        h, d, rho = self._rule()
        self.h = [min(h, cap) for cap in self.max_lr]
        for j, h_j in enumerate(self.h):
            kept = max(0.0, 1.0 - h_j * self.decay[j])
            self.theta[j] = kept * self.theta[j] - h_j * d[j] / rho

    def _rule(self) -> tuple[float, list[Tensor], float]:
        """Uncapped step size, direction d, and the sum rho of the weights."""
        k = len(self.losses) - 1
        w = [(1.0 - self.beta) * self.beta ** (k - j) for j in range(k + 1)]
        rho = sum(w)
        groups = range(len(self.theta))
        d = [
            sum((w[j] * self.gradients[j][i] for j in range(k + 1)), torch.zeros(()))
            for i in groups
        ]
        model = 0.0
        for j in range(k + 1):
            moved = [self.theta[i] - self.points[j][i] for i in groups]
            slope = sum(float(self.gradients[j][i] @ moved[i]) for i in groups)
            model += w[j] * (self.losses[j] + slope)
        G = sum(float(x @ x) for x in d)
        gap = max(0.0, model - rho * self.f_star)
        return (self.scale * rho * gap / G if G > 0.0 else 0.0), d, rho

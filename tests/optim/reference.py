"""Compute the optimizers' steps slowly, in the papers' notation, as the oracle of the tests.

This is plain Python on float64 vectors, with one line per formula and no recursion. Every point,
loss and gradient is kept. What the fast optimizers store is summed again from all of them.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

Vectors = list[Tensor]


def norm_sq(g: Vectors) -> float:
    """Return ``||g||^2`` over all groups."""
    return sum(float(x @ x) for x in g)


class Reference:
    """Hold what all twins share: groups of vectors, their caps and decay, and the history.

    Args:
        theta: one float64 vector per group. `step` moves them.
        max_lr: one cap per group.
        f_star: lower bound of the loss.
        beta: momentum.
        decay: one decoupled weight decay per group.
        options: options of the rule.
    """

    def __init__(
        self,
        theta: Vectors,
        max_lr: list[float],
        f_star: float = 0.0,
        beta: float = 0.0,
        decay: list[float] | None = None,
        **options: Any,
    ) -> None:
        self.theta = [t.clone() for t in theta]
        self.max_lr, self.f_star, self.beta = max_lr, f_star, beta
        self.decay = decay or [0.0] * len(theta)
        self.options = options
        self.points: list[Vectors] = []
        self.losses: list[float] = []
        self.gradients: list[Vectors] = []
        self.steps: list[list[float]] = []
        self.h = [0.0] * len(theta)

    def step(self, E: float, g: Vectors) -> None:
        """Take one step from the loss E and its gradient g, one vector per group."""
        self.h = [0.0] * len(self.theta)
        if not math.isfinite(E) or not all(bool(x.isfinite().all()) for x in g):
            return
        self.points.append([t.clone() for t in self.theta])
        self.losses.append(E)
        self.gradients.append([x.clone() for x in g])
        self.h = [self.limit(self.rule(), cap) for cap in self.max_lr]
        self.steps.append(self.h)
        direction = self.direction()
        for j, h in enumerate(self.h):
            kept = max(0.0, 1.0 - h * self.decay[j])
            self.theta[j] = kept * self.theta[j] - direction[j]

    def rule(self) -> float:
        """Return the step size before the cap."""
        raise NotImplementedError

    def limit(self, h: float, cap: float) -> float:
        """Return the step size under a cap."""
        return min(h, cap)

    def direction(self) -> Vectors:
        """Return the heavy ball's direction, ``sum_j beta^(k - j) (1 - beta) h_j g_j``."""
        k = len(self.losses) - 1
        return [
            sum(
                (self.beta ** (k - j) * (1.0 - self.beta) * self.steps[j][i] * self.gradients[j][i])
                for j in range(k + 1)
            )  # pyright: ignore[reportReturnType]
            for i in range(len(self.theta))
        ]

    def gaps(self) -> list[float]:
        """Return ``(E_j - f*)_+``."""
        return [max(0.0, E - self.f_star) for E in self.losses]

    def ratios(self) -> list[float]:
        """Return Polyak's step at every point, 0 where the gradient vanishes."""
        norms = [norm_sq(g) for g in self.gradients]
        return [gap / n if n > 0.0 else 0.0 for gap, n in zip(self.gaps(), norms, strict=True)]


class ReferenceCLR(Reference):
    """Follow CLR, with momentum in MoMo's form."""

    def rule(self) -> float:
        """Return ``rho [sum_j w_j (f_j + <g_j, x - x_j>) - rho f*]_+ / ||d||^2``."""
        d, w = self._average(), self._weights()
        model = 0.0
        for j, weight in enumerate(w):
            moved = [x - p for x, p in zip(self.points[-1], self.points[j], strict=True)]
            slope = sum(float(g @ x) for g, x in zip(self.gradients[j], moved, strict=True))
            model += weight * (self.losses[j] + slope)
        gap = max(0.0, model - sum(w) * self.f_star)
        G = norm_sq(d)
        return self.options.get("scale", 1.0) * sum(w) * gap / G if G > 0.0 else 0.0

    def direction(self) -> Vectors:
        """Return ``h d / rho``."""
        rho = sum(self._weights())
        return [h * d / rho for h, d in zip(self.h, self._average(), strict=True)]

    def _weights(self) -> list[float]:
        k = len(self.losses) - 1
        return [(1.0 - self.beta) * self.beta ** (k - j) for j in range(k + 1)]

    def _average(self) -> Vectors:
        w = self._weights()
        return [
            sum(w[j] * g[i] for j, g in enumerate(self.gradients))  # pyright: ignore
            for i in range(len(self.theta))
        ]


class ReferenceHalfPolyak(Reference):
    """Take half steps to a lower bound that is refined after every round."""

    def rule(self) -> float:
        """Return ``(E - bound)_+ / (2 ||g||^2)``, with the bound computed from all losses."""
        bound, every = self.f_star, self.options["refine_every"]
        for start in range(0, len(self.losses) - 1, every or len(self.losses)):
            stretch = self.losses[start : start + every] if every else self.losses
            for E in stretch:
                bound = self.f_star if bound > E else bound
            if every and start + every < len(self.losses):
                bound = (min(bound, *stretch) + min(stretch)) / 2
        E, G = self.losses[-1], norm_sq(self.gradients[-1])
        bound = self.f_star if bound > E else bound
        return max(0.0, E - bound) / (2.0 * G) if G > 0.0 else 0.0


class ReferenceSPSMax(Reference):
    """Follow SPS_max with limited growth."""

    def rule(self) -> float:
        """Return ``min_j growth^(k - j) ratio_j / c``, at most the first step's allowance."""
        c, growth, first = (self.options[key] for key in ("c", "growth", "first"))
        ratios = [r / c for r in self.ratios()]
        if growth is None or ratios[-1] == 0.0:
            return ratios[-1]
        k = len(ratios)
        allowed = [growth ** (k - 1 - j) * r for j, r in enumerate(ratios) if r > 0.0]
        return min(*allowed, growth**k * first)


class ReferenceSPSSafe(Reference):
    """Follow SPS with a floor under the norm."""

    def rule(self) -> float:
        """Return ``gap / max(||g||^2, M)``."""
        G = norm_sq(self.gradients[-1])
        return self.gaps()[-1] / max(G, self.options["floor"]) if G > 0.0 else 0.0


class ReferenceNGN(Reference):
    """Follow the non-negative Gauss-Newton step."""

    def rule(self) -> float:
        """Return twice Polyak's step."""
        return 2.0 * self.ratios()[-1]

    def limit(self, h: float, cap: float) -> float:
        """Return ``sigma / (1 + sigma ||g||^2 / (2 gap))``."""
        if h == 0.0 or math.isinf(cap):
            return h
        return cap / (1.0 + cap / h)


class ReferenceDecSPS(Reference):
    """Follow decreasing SPS."""

    def rule(self) -> float:
        """Return ``min(c gamma_b, min_j ratio_j) / (c sqrt(k + 1))``."""
        c, ratios = self.options["c"], self.ratios()
        if ratios[-1] == 0.0:
            return 0.0
        counted = [r for r in ratios if r > 0.0]
        return min(c * self.max_lr[0], *counted) / (c * math.sqrt(len(counted)))


class ReferenceAdaSPS(Reference):
    """Follow AdaSPS, with its divisor in units of the first gap."""

    def rule(self) -> float:
        """Return ``min_j ratio_j sqrt(gap_0) / (c sqrt(sum_{i <= j} gap_i))``."""
        ratios, gaps = self.ratios(), self.gaps()
        if ratios[-1] == 0.0:
            return 0.0
        unit = next(gap for gap in gaps if gap > 0.0)
        return min(
            r * math.sqrt(unit / sum(gaps[: j + 1])) / self.options["c"]
            for j, r in enumerate(ratios)
            if r > 0.0
        )


class ReferenceMoMoAdam(ReferenceCLR):
    """Follow MoMo in Adam's metric."""

    def rule(self) -> float:
        """Return MoMo's step with ``<d, d / D>`` in place of ``||d||^2``."""
        d = self._average()
        G = sum(float(x @ (x / D)) for x, D in zip(d, self._metric(), strict=True))
        return super().rule() * norm_sq(d) / G if G > 0.0 else 0.0

    def direction(self) -> Vectors:
        """Return ``h d / (rho D)``."""
        plain = super().direction()
        return [x / D for x, D in zip(plain, self._metric(), strict=True)]

    def _metric(self) -> Vectors:
        beta2, eps = self.options["beta2"], self.options["eps"]
        k = len(self.gradients) - 1
        w = [(1.0 - beta2) * beta2 ** (k - j) for j in range(k + 1)]
        squares = [
            sum(w[j] * g[i] ** 2 for j, g in enumerate(self.gradients))
            for i in range(len(self.theta))
        ]
        return [(v / sum(w)).sqrt() + eps for v in squares]  # pyright: ignore

"""The trial forms: a loss limit and a distance limit on the step, and an average, in slow code.

z is the fast iterate, x the average, ``y = (1 - beta) z + beta x`` the point of loss and gradient.
y lies in the parameters during training, x after `eval`. P is Adam's metric; ``|g|^2 = <g, P g>``,
and a distance is taken in the inverse of P.

    h1 = (f(y) - f_star + beta <g, z - x>)_+ / |g|^2
    h3 = factor D / sqrt(G),    D = max(D0, max over s of |z_s - z_0|)
    D0 = c0 (f(y_0) - f_star) / |g_0|,    G = t (mean of |g_s|^2 with weights s)
    z <- z - min(h1, h3) P g
    x <- x + (w / sum of w) (z - x),    w = t / f_bar^2

f_bar is the bias-corrected mean of f - f_star. The code follows the lines above, one tensor at a
time, in float64 sums. It is the slow twin of a fast optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from benchmarks.practice.entrant import copies, zeros
from benchmarks.practice.matrices import flat, hidden, polar
from benchmarks.practice.sequences import Sequences
from torch import Tensor, nn

LOSS_MEAN = 0.9  # weight of the past in f_bar
SHARE = 0.01  # D0 as a share of the weights' norm, where no bound of the loss is known


class Averaged(Sequences):
    """Take steps limited by the loss and the distance, in Adam's metric, and average them.

    Args:
        model: its trained parameters are moved.
        f_star: lower bound of the loss; None if unknown. Then h1 is off, D0 is a share of the
            weights' norm, and ``w = t``.
        beta: weight of the average in y, in [0, 1) (default: 0.9).
        c0: share of the corridor's length that D0 is (default: 0.1).
        factor: factor on h3 (default: 1).
        distance: "z" or "x", the iterate whose distance from the start is taken (default: "z").
        drift: tau of the drift limit ``h2 = 2 tau / r``; None for no limit (default: None).
        every: number of steps from one measurement of r to the next (default: 20).
        beta2: weight of the past in v (default: 0.999).
        eps: number added to the root of v (default: 1e-8).
    """

    def __init__(
        self, model: nn.Module, f_star: float | None, *, beta: float = 0.9, c0: float = 0.1,
        factor: float = 1.0, distance: str = "z", drift: float | None = None, every: int = 20,
        beta2: float = 0.999, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(model, beta)
        self.f_star, self.c0, self.factor = f_star, c0, factor
        self.distance, self.drift, self.every = distance, drift, every
        self.beta2, self.eps = beta2, eps
        self.start, self.v = copies(self.params), zeros(self.params)
        self.h = self.far = 0.0
        self.sum_s_norms = self.sum_w = self.mean_loss = self.loss = 0.0
        self.ratios: list[float] = []

    def watch(self, loss: Tensor) -> Tensor:
        """Keep the loss, measure the drift if it is due, and return the loss."""
        self.loss = loss.item()
        if self.drift is not None and self.t % self.every == 0:
            self.measure(loss)
        return loss

    def measure(self, loss: Tensor) -> None:
        """Add ``sqrt(<Hu, P Hu>) / |g|`` with ``u = P g`` to the ratios."""
        g = torch.autograd.grad(loss, self.params, create_graph=True, allow_unused=True)
        g = [torch.zeros_like(p) if a is None else a for p, a in zip(self.params, g, strict=True)]
        own = [a.detach() for a in g]
        metric = self.metric(self.second_moments(own), self.t + 1)
        u = [m * a for m, a in zip(metric, own, strict=True)]
        along = sum((a * b).sum() for a, b in zip(g, u, strict=True))
        hu = torch.autograd.grad(along, self.params, retain_graph=True, allow_unused=True)
        hu = [torch.zeros_like(p) if a is None else a for p, a in zip(self.params, hu, strict=True)]
        change = dot(hu, [m * a for m, a in zip(metric, hu, strict=True)])
        norm_sq = dot(own, u)
        if norm_sq > 0 and math.isfinite(change):
            self.ratios.append(math.sqrt(change / norm_sq))

    @torch.no_grad()
    def step(self) -> None:
        """Take one step. A loss or gradient that is not finite gives no step."""
        g = self.gradients()
        if not math.isfinite(self.loss + dot(g, g)):
            return
        self.t += 1
        u, squares = self.direction(g)
        norm_sq = dot(g, u)
        self.h = self.size(g, norm_sq, math.sqrt(sum(squares))) if norm_sq > 0 else 0.0
        weight = self.weight()
        self.sum_w += weight
        for z, d in zip(self.z, u, strict=True):
            z.sub_(d, alpha=self.h)
        self.average(weight / self.sum_w)

    def size(self, g: Sequence[Tensor], norm_sq: float, far: float) -> float:
        """Return the step size: the smallest limit."""
        bounded = self.f_star is not None
        gap = self.loss - self.f_star if bounded else 0.0
        if self.t == 1:
            self.far = self.c0 * max(0.0, gap) / math.sqrt(norm_sq) if bounded else self.share()
        self.far = max(self.far, far)
        self.sum_s_norms += self.t * norm_sq
        total = 2 * self.sum_s_norms / (self.t + 1)  # t times the mean with weights s
        limits = [self.factor * self.far / math.sqrt(total)]
        if bounded:
            apart = [z - x for z, x in zip(self.z, self.x, strict=True)]
            limits.append(max(0.0, gap + self.beta * dot(g, apart)) / norm_sq)
        if self.ratios:
            limits.append(2 * self.drift * len(self.ratios) / max(sum(self.ratios), 1e-300))
        return min(limits)

    def weight(self) -> float:
        """Return the weight of this step's z in the average."""
        if self.f_star is None:
            return float(self.t)
        gap = max(0.0, self.loss - self.f_star)
        self.mean_loss = LOSS_MEAN * self.mean_loss + (1 - LOSS_MEAN) * gap
        return self.t / max(self.mean_loss / (1 - LOSS_MEAN**self.t), 1e-30) ** 2

    def direction(self, g: Sequence[Tensor]) -> tuple[list[Tensor], list[float]]:
        """Return the direction P g, and each parameter's squared distance from the start."""
        self.v = self.second_moments(g)
        metric = self.metric(self.v, self.t)
        apart = zip(self.z if self.distance == "z" else self.x, self.start, metric, strict=True)
        squares = [per_metric(a - b, m) for a, b, m in apart]
        return [m * a for m, a in zip(metric, g, strict=True)], squares

    def second_moments(self, g: Sequence[Tensor]) -> list[Tensor]:
        """Return v with the gradient added."""
        b = self.beta2
        return [b * v + (1 - b) * a * a for v, a in zip(self.v, g, strict=True)]

    def metric(self, moments: Sequence[Tensor], t: int) -> list[Tensor]:
        """Return P: 0 where there has been no gradient."""
        corrected = [v / (1 - self.beta2**t) for v in moments]
        return [torch.where(v > 0, 1 / (v.sqrt() + self.eps), 0.0) for v in corrected]

    def share(self) -> float:
        """Return D0 as a share of the weights' norm in the metric."""
        metric = self.metric(self.v, self.t)
        pairs = zip(self.start, metric, strict=True)
        return SHARE * math.sqrt(sum(per_metric(a, m) for a, m in pairs))


class Spectral(Averaged):
    """Take the steps of `Averaged` along polar factors on hidden matrices.

    On a matrix of m rows and n columns, with nuclear norm ``|g|_+``,

        u = sqrt(max(m, n)) polar(g) |g|_+ / rms(|g|_+)

    and the squared distance is ``|z - z_0|_F^2`` times the mean of ``<g, u> / |u|^2``. Root mean
    square and mean are bias-corrected, with `beta2` as weight of the past. All other parameters
    keep Adam's metric.

    Args:
        model: its hidden matrices with sides of at least 16 get polar factors.
        f_star: lower bound of the loss; None if unknown.
        beta: weight of the average in y, in [0, 1) (default: 0.8).
        c0: share of the corridor's length that D0 is (default: 0.1).
    """

    SMALLEST = 16

    def __init__(
        self, model: nn.Module, f_star: float | None, *, beta: float = 0.8, c0: float = 0.1
    ) -> None:
        super().__init__(model, f_star, beta=beta, c0=c0)
        own = {id(p) for p in hidden(model, self.SMALLEST)}
        self.places = [i for i, p in enumerate(self.params) if id(p) in own]
        self.nuclear_sq = dict.fromkeys(self.places, 0.0)
        self.scales = dict.fromkeys(self.places, 0.0)

    def direction(self, g: Sequence[Tensor]) -> tuple[list[Tensor], list[float]]:
        """Return the direction, and each parameter's squared distance from the start."""
        u, squares = super().direction(g)
        for i in self.places:
            apart = self.z[i] - self.start[i]
            u[i] = self.spectral(i, g[i])
            squares[i] = self.scale(i, g[i], u[i]) * dot([apart], [apart])
        return u, squares

    def spectral(self, i: int, g: Tensor) -> Tensor:
        """Return the direction of a matrix."""
        matrix = flat(g)
        factor = polar(matrix)
        nuclear = dot([matrix], [factor])
        past, now = self.beta2, 1 - self.beta2
        self.nuclear_sq[i] = past * self.nuclear_sq[i] + now * nuclear**2
        rms = math.sqrt(self.nuclear_sq[i] / (1 - past**self.t))
        length = math.sqrt(max(matrix.shape)) * nuclear / rms if rms > 0 else 0.0
        return (length * factor).reshape(g.shape)

    def scale(self, i: int, g: Tensor, u: Tensor) -> float:
        """Return the mean of ``<g, u> / |u|^2``."""
        length_sq = dot([u], [u])
        now = dot([g], [u]) / length_sq if length_sq > 0 else 0.0
        self.scales[i] = self.beta2 * self.scales[i] + (1 - self.beta2) * now
        return self.scales[i] / (1 - self.beta2**self.t)

    def share(self) -> float:
        """Return D0 as a share of the weights' norm."""
        metric, total = self.metric(self.v, self.t), 0.0
        for i, (a, m) in enumerate(zip(self.start, metric, strict=True)):
            spectral = i in self.scales
            corrected = self.scales.get(i, 0.0) / (1 - self.beta2**self.t)
            total += corrected * dot([a], [a]) if spectral else per_metric(a, m)
        return SHARE * math.sqrt(total)


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the inner product of two lists of tensors, summed in float64."""
    return sum(float((p * q).sum(dtype=torch.float64)) for p, q in zip(a, b, strict=True))


def per_metric(a: Tensor, metric: Tensor) -> float:
    """Return the squared length of a tensor in the inverse metric; 0 where the metric is 0."""
    return float(torch.where(metric > 0, a * a / metric, 0.0).sum(dtype=torch.float64))

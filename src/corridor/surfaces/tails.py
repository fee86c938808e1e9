"""Smooth losses with known geometry: tails along a margin, and other standard shapes."""

import torch
from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface, positive


class ExponentialTail(Surface):
    """Compute ``E = exp(-x)``: corridor number 1/2 everywhere; one CLR step multiplies E by 1/e."""

    dimension = 1
    verdict = Verdict.WEAK
    expression = "exp(-x)"

    def value(self, x: Tensor) -> Tensor:
        return torch.exp(-x[..., 0])


class LogisticTail(Surface):
    """Compute ``E = ln(1 + exp(-x))``: the loss of one example with the margin x.

    It is a corridor in the limit x to -inf, and an exponential tail in the limit x to +inf. With
    ``u = exp(-x)``, twice the corridor number is ``ln(1 + u) / u``.
    """

    dimension = 1
    verdict = Verdict.WEAK
    expression = "log(1 + exp(-x))"

    def value(self, x: Tensor) -> Tensor:
        # torch is linear above its default threshold, where Hg would be 0.
        return torch.nn.functional.softplus(-x[..., 0], threshold=float("inf"))


class LogDistance(Surface):
    """Compute ``E = ln(1 + ||theta||^2)``: the weak corridor of subtlety S1.

    The level sets are parallel. The flow lines are therefore straight, but their speed changes.
    """

    verdict = Verdict.WEAK
    expression = "log(1 + x**2 + y**2)"

    def value(self, x: Tensor) -> Tensor:
        return torch.log1p(x.square().sum(-1))


class Huber(Surface):
    """Compute a cone of slope c with a tip of curvature L instead of the kink (subtlety S10).

    Its corridor ends at ``E = c^2 / (2 L)``, the smallest loss at which a corridor of an L-smooth
    loss can end.

    Args:
        slope: c, positive. Default: 1.
        smoothness: L, positive. Default: 1.
    """

    verdict = Verdict.WEAK

    def __init__(self, slope: float = 1.0, smoothness: float = 1.0) -> None:
        self.slope = positive(slope, "slope")
        self.smoothness = positive(smoothness, "smoothness")
        self.radius = slope / smoothness
        self.domain = Domain(
            "off the circle around the rounded tip", lambda x: (x.norm(dim=-1) - self.radius).abs()
        )

    def value(self, x: Tensor) -> Tensor:
        """Return ``1/2 L r^2`` for r below c / L, and ``c r - c^2 / (2 L)`` above."""
        squared = x.square().sum(-1)
        inside = squared < self.radius**2
        # The root of 0 has no derivative, which would spoil the other branch.
        r = torch.where(inside, torch.ones_like(squared), squared).sqrt()
        outer = self.slope * r - 0.5 * self.slope * self.radius
        return torch.where(inside, 0.5 * self.smoothness * squared, outer)


class LogSumExp(Surface):
    """Compute ``E = ln sum exp(theta_i)``: smooth, convex, no corridor."""

    f_star = -float("inf")
    expression = "log(exp(x) + exp(y))"

    def value(self, x: Tensor) -> Tensor:
        return torch.logsumexp(x, dim=-1)


class Rosenbrock(Surface):
    """Compute ``E = (1 - x)^2 + b (y - x^2)^2``: a curved valley, no corridor.

    Args:
        steepness: b, positive. Default: 10.
    """

    dimension = 2

    def __init__(self, steepness: float = 10.0) -> None:
        self.steepness = positive(steepness, "steepness")
        self.expression = f"(1 - x)**2 + {steepness!r}*(y - x**2)**2"

    def value(self, x: Tensor) -> Tensor:
        x, y = x.unbind(-1)
        return (1.0 - x).square() + self.steepness * (y - x.square()).square()


class RiverValley(Surface):
    """Compute ``E = y + 1/2 k(y) x^2``, ``k = 2 + tanh(y)``: a river in a valley (subtlety S6).

    The river x = 0 is a corridor of one dimension inside a surface that is not a corridor.
    """

    dimension = 2
    f_star = -float("inf")
    expression = "y + (2 + tanh(y))*x**2/2"

    def value(self, x: Tensor) -> Tensor:
        x, y = x.unbind(-1)
        return y + 0.5 * (2.0 + torch.tanh(y)) * x.square()

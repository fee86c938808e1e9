"""Ruled surfaces over the plane (example 2.5), and smooth losses with known geometry."""

import torch
from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface, nonzero, positive


def _off_the_cut(x: Tensor) -> Tensor:
    """Return the distance of points in the plane to the half-line at the angle pi."""
    return torch.where(x[..., 0] < 0.0, x[..., 1].abs(), x.norm(dim=-1))


class DevelopableHelicoid(Surface):
    """Compute the surface of the tangents to a helix, of slope 1: ruled, and a corridor.

    Over the plane outside a circle of radius a, in polar coordinates r and phi,

        E = sqrt(r^2 - a^2) - a arccos(a / r) + a phi

    has ``E_r = sqrt(r^2 - a^2) / r`` and ``E_phi / r = a / r``. Therefore ``||g|| = 1``. The flow
    lines are the tangents of the circle. phi jumps at the angle pi. Inside, E is NaN.

    Args:
        radius: a, positive, of the circle that the flow lines touch and end on. Default: 1.
    """

    verdict = Verdict.CORRIDOR
    speed = 1.0
    dimension = 2

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = positive(radius, "radius")
        self.f_star = -torch.pi * radius
        self.domain = Domain(
            "outside the circle, off the cut at angle pi",
            lambda x: torch.minimum(x.norm(dim=-1) - self.radius, _off_the_cut(x)),
        )
        a = repr(float(radius))
        root = f"sqrt(x**2 + y**2 - {a}**2)"
        self.expression = f"{root} - {a}*atan({root}/{a}) + {a}*atan2(y, x)"

    def value(self, x: Tensor) -> Tensor:
        a = self.radius
        root = (x.square().sum(-1) - a * a).sqrt()
        # arccos(a / r) as an arctangent keeps its derivatives accurate near the circle.
        return root - a * torch.atan(root / a) + a * torch.atan2(x[..., 1], x[..., 0])


class Helicoid(Surface):
    """Compute ``E = pitch * phi``, phi the polar angle: ruled, with circles as flow lines.

    Args:
        pitch: rise per radian, not 0. Default: 1.
    """

    dimension = 2

    def __init__(self, pitch: float = 1.0) -> None:
        self.pitch = nonzero(pitch, "pitch")
        self.f_star = -torch.pi * abs(pitch)
        self.domain = Domain("off the cut at angle pi", _off_the_cut)
        self.expression = f"{float(pitch)!r}*atan2(y, x)"


class Saddle(Surface):
    """Compute ``E = x y``: ruled by lines, which are not lines of steepest descent."""

    dimension = 2
    f_star = -float("inf")
    expression = "x*y"


class Trough(Surface):
    """Compute ``E = 1/2 k x^2``, constant in y: developable, but its generators are level lines.

    Args:
        curvature: k, positive. Default: 1.
    """

    dimension = 2
    verdict = Verdict.WEAK

    def __init__(self, curvature: float = 1.0) -> None:
        self.curvature = positive(curvature, "curvature")
        self.expression = f"{float(0.5 * curvature)!r}*x**2"


class ExponentialTail(Surface):
    """Compute ``E = exp(-x)``: corridor number 1/2 everywhere; one CLR step multiplies E by 1/e."""

    dimension = 1
    verdict = Verdict.WEAK
    expression = "exp(-x)"


class LogisticTail(Surface):
    """Compute ``E = ln(1 + exp(-x))``: the loss of one example with the margin x.

    It tends to a corridor for x to -inf, and to an exponential tail for x to +inf. Its corridor
    number is `corridor.theory.beyond.logistic_rho`.
    """

    dimension = 1
    verdict = Verdict.WEAK
    expression = "log(1 + exp(-x))"

    def value(self, x: Tensor) -> Tensor:
        # torch is linear above its default threshold, where Hg would be 0.
        return torch.nn.functional.softplus(-x[..., 0], threshold=float("inf"))


class LogDistance(Surface):
    """Compute ``E = ln(1 + ||theta||^2)``: straight flow lines of changing speed (subtlety S1)."""

    verdict = Verdict.WEAK
    expression = "log(1 + x**2 + y**2)"

    def value(self, x: Tensor) -> Tensor:
        return torch.log1p(x.square().sum(-1))


class Huber(Surface):
    """Compute a cone of slope c with a tip of curvature L instead of the kink (subtlety S10).

    With ``r = ||theta||``, the loss is ``1/2 L r^2`` for r below c / L, and ``c r - c^2 / (2 L)``
    above. Its corridor ends at ``c^2 / (2 L)``, the smallest end for an L-smooth loss.

    Args:
        slope: c, positive. Default: 1.
        smoothness: L, positive. Default: 1.
    """

    verdict = Verdict.WEAK

    def __init__(self, slope: float = 1.0, smoothness: float = 1.0) -> None:
        self.slope, self.smoothness = positive(slope, "slope"), positive(smoothness, "smoothness")
        self.radius = slope / smoothness
        self.domain = Domain(
            "off the circle around the rounded tip", lambda x: (x.norm(dim=-1) - self.radius).abs()
        )

    def value(self, x: Tensor) -> Tensor:
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
        self.expression = f"(1 - x)**2 + {float(steepness)!r}*(y - x**2)**2"


class RiverValley(Surface):
    """Compute ``E = y + 1/2 (2 + tanh(y)) x^2``, not a corridor, but its river x = 0 is (S6)."""

    dimension = 2
    f_star = -float("inf")
    expression = "y + (2 + tanh(y))*x**2/2"

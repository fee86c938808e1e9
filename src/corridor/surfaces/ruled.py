"""Ruled surfaces over the plane (example 2.5), of which corridors are developable (S15)."""

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
        self.expression = f"{pitch!r}*atan2(y, x)"

    def value(self, x: Tensor) -> Tensor:
        return self.pitch * torch.atan2(x[..., 1], x[..., 0])


class Saddle(Surface):
    """Compute ``E = x y``: ruled by lines, which are not lines of steepest descent."""

    dimension = 2
    f_star = -float("inf")
    expression = "x*y"

    def value(self, x: Tensor) -> Tensor:
        return x[..., 0] * x[..., 1]


class Trough(Surface):
    """Compute ``E = 1/2 k x^2``, constant in y: developable, but its generators are level lines.

    Args:
        curvature: k, positive. Default: 1.
    """

    dimension = 2
    verdict = Verdict.WEAK

    def __init__(self, curvature: float = 1.0) -> None:
        self.curvature = positive(curvature, "curvature")
        self.expression = f"{0.5 * curvature!r}*x**2"

    def value(self, x: Tensor) -> Tensor:
        return 0.5 * self.curvature * x[..., 0].square()

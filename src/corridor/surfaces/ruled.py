"""Ruled surfaces over the plane (example 2.5): which are corridors, and which are not.

``Hg = 0`` with g not 0 makes ``det H = 0``, so that a corridor over the plane is developable,
with generators of one slope. Being ruled is not enough, nor is being developable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corridor.surfaces.base import Domain, Surface, Verdict, norm


class DevelopableHelicoid(Surface):
    """The surface of the tangents to a helix, of slope 1: ruled, and a corridor.

    Over the plane outside a circle of radius a, in polar coordinates r and phi,

        E = sqrt(r^2 - a^2) - a arccos(a / r) + a phi

    has ``E_r = sqrt(r^2 - a^2) / r`` and ``E_phi / r = a / r``, so ``||g|| = 1``: the flow lines
    are the tangents of the circle, the level sets its involutes. phi is cut at pi.

    Args:
        radius: a, of the circle that the flow lines touch and end on.

    Example:
        >>> import torch
        >>> surface = DevelopableHelicoid(1.0)
        >>> x = torch.tensor([1.5, 1.0], dtype=torch.float64, requires_grad=True)
        >>> (g,) = torch.autograd.grad(surface(x), x)
        >>> round(float(g.norm()), 12)
        1.0
    """

    verdict = Verdict.CORRIDOR
    speed = 1.0
    f_star = -float("inf")
    dimension = 2

    def __init__(self, radius: float = 1.0) -> None:
        if not radius > 0.0:
            raise ValueError(f"radius must be positive, got {radius}")
        self.radius = radius
        self.f_star = -torch.pi * radius
        self.domain = Domain("outside the circle, off the cut at angle pi", self._margin)
        a = repr(float(radius))
        root = f"sqrt(x**2 + y**2 - {a}**2)"
        self.expression = f"{root} - {a}*atan({root}/{a}) + {a}*atan2(y, x)"

    def value(self, x: Tensor) -> Tensor:
        """``sqrt(r^2 - a^2) - a arctan(sqrt(r^2 - a^2) / a) + a phi``, NaN inside the circle."""
        a = self.radius
        root = (x.square().sum(-1) - a * a).sqrt()
        return root - a * torch.atan(root / a) + a * torch.atan2(x[..., 1], x[..., 0])

    def _margin(self, x: Tensor) -> Tensor:
        beside = torch.where(x[..., 0] < 0.0, x[..., 1].abs(), norm(x))
        return torch.minimum(norm(x) - self.radius, beside)


class Helicoid(Surface):
    """``E = pitch * phi``, phi the polar angle: ruled by horizontal lines, but no corridor.

    Its flow lines are circles, and ``||g|| = pitch / r`` differs between them.

    Args:
        pitch: rise for a radian.

    Example:
        >>> import torch
        >>> round(float(Helicoid()(torch.tensor([0.0, 2.0]))), 6)
        1.570796
    """

    dimension = 2

    def __init__(self, pitch: float = 1.0) -> None:
        if not pitch:
            raise ValueError("pitch must not be 0: the loss would be flat")
        self.pitch = pitch
        self.f_star = -torch.pi * abs(pitch)
        self.domain = Domain(
            "off the cut at angle pi",
            lambda x: torch.where(x[..., 0] < 0.0, x[..., 1].abs(), norm(x)),
        )
        self.expression = f"{pitch!r}*atan2(y, x)"

    def value(self, x: Tensor) -> Tensor:
        """``pitch * atan2(y, x)``."""
        return self.pitch * torch.atan2(x[..., 1], x[..., 0])


class Saddle(Surface):
    """``E = x y``: ruled by two families of lines, none of them lines of steepest descent.

    Example:
        >>> import torch
        >>> float(Saddle()(torch.tensor([2.0, 3.0])))
        6.0
    """

    dimension = 2
    f_star = -float("inf")
    expression = "x*y"

    def value(self, x: Tensor) -> Tensor:
        """``x y``."""
        return x[..., 0] * x[..., 1]


class Trough(Surface):
    """``E = 1/2 k x^2``, constant in y: developable, but its generators are level lines.

    The flow lines are straight and slow down: a weak corridor.

    Args:
        curvature: k.

    Example:
        >>> import torch
        >>> float(Trough()(torch.tensor([2.0, 3.0])))
        2.0
    """

    dimension = 2
    verdict = Verdict.WEAK

    def __init__(self, curvature: float = 1.0) -> None:
        if not curvature > 0.0:
            raise ValueError(f"curvature must be positive, got {curvature}")
        self.curvature = curvature
        self.expression = f"{0.5 * curvature!r}*x**2"

    def value(self, x: Tensor) -> Tensor:
        """``1/2 k x^2``."""
        return 0.5 * self.curvature * x[..., 0].square()

"""Distances to sets: every corridor is one, up to its slope (the eikonal equation)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from corridor.surfaces.base import Domain, Surface, Verdict, everywhere
from corridor.surfaces.shapes import Shape


class DistanceTo(Surface):
    """``E = slope * distance(theta) + level``: a corridor for every closed set and shape.

    A corridor has one constant ``||g|| = slope`` (as ``grad ||g||^2 = 2 Hg = 0``), so that
    ``E / slope`` solves the eikonal equation ``|grad d| = 1``, which distances do; conversely every
    corridor is of this form near each of its points.

    Args:
        shape: a `Shape`, or any function from points [..., n] to their signed distances [...].
        slope: ``||g||``, positive; negative for hills.
        level: added to the loss.
        absolute: the distance without its sign, with a kink on the shape's boundary and f_star
            there. By default where the shape has an inside.
        dimension: n, for a function; a shape knows its own.
        margin: for a function, its distance to the cut locus; nowhere kinked by default.

    Raises:
        ValueError: the slope is 0.

    Example:
        >>> import torch
        >>> from corridor.surfaces import Sphere
        >>> ring = DistanceTo(Sphere([0.0, 0.0], 1.0))
        >>> float(ring(torch.tensor([0.0, 0.5]))), ring.f_star, ring.speed
        (0.5, 0.0, 1.0)
    """

    verdict = Verdict.CORRIDOR

    def __init__(
        self,
        shape: Shape | Callable[[Tensor], Tensor],
        *,
        slope: float = 1.0,
        level: float = 0.0,
        absolute: bool | None = None,
        dimension: int | None = None,
        margin: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not slope:
            raise ValueError("slope must not be 0: the loss would be flat")
        known = isinstance(shape, Shape)
        self.shape, self.slope, self.level = shape, slope, level
        self.absolute = (known and shape.signed) if absolute is None else absolute
        self.dimension = shape.dimension if known else dimension
        self.speed = abs(slope)
        self.f_star = self._lowest()
        self._focal = shape.focal if known else (margin or everywhere)
        self.domain = Domain("where one point of the set is nearest", self._margin)
        self.expression = self._text(shape.expression) if known and shape.expression else None

    def value(self, x: Tensor) -> Tensor:
        """``slope * distance + level``."""
        distance = self.shape(x)
        return self.slope * (distance.abs() if self.absolute else distance) + self.level

    def _lowest(self) -> float:
        if self.slope < 0.0:
            return -float("inf")
        if self.absolute:
            return self.level
        if not isinstance(self.shape, Shape):
            return -float("inf")
        return self.level - self.slope * self.shape.depth

    def _margin(self, x: Tensor) -> Tensor:
        focal = self._focal(x)
        return focal.minimum(self.shape(x).detach().abs()) if self.absolute else focal

    def _text(self, inner: str) -> str:
        inner = f"abs({inner})" if self.absolute else inner
        scaled = inner if self.slope == 1.0 else f"{self.slope!r}*({inner})"
        return f"{scaled} + {self.level!r}" if self.level else scaled

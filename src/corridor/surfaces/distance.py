"""Make corridors from distances to closed sets (the eikonal equation)."""

from collections.abc import Callable
from contextlib import suppress
from typing import cast

import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface, everywhere, judge, nonzero, one_each
from corridor.surfaces.shapes import Shape


class DistanceTo(Surface):
    """Compute ``E = slope * distance(theta) + level``: a corridor for every closed set and shape.

    Every corridor has this form near each of its points, because ``grad ||g||^2 = 2 Hg = 0``.

    Any function may replace the shape. Its verdict and speed then come from derivatives at 16
    random points. `LevelSet` makes a distance from a function that is not a distance.

    Args:
        shape: a `Shape`, or a function from points [..., n] to their signed distances [...].
        slope: ``||g||``, not 0; negative for hills. Default: 1.
        level: added to the loss. Default: 0.
        absolute: True for the distance without its sign, which has a kink and its infimum on the
            boundary of the shape. Default: True for a shape with an inside.
        dimension: n, for a function. Its verdict is measured in R^n (default: R^2).
        margin: for a function, its distance to the cut locus. Default: no kinks.

    Example:
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
        known = isinstance(shape, Shape)
        self.shape, self.slope, self.level = shape, nonzero(slope, "slope"), level
        self.absolute = (known and shape.signed) if absolute is None else absolute
        self.dimension = shape.dimension if known else dimension
        self.speed = abs(slope)
        depth = 0.0 if self.absolute else shape.depth if known else float("inf")
        self.f_star = level - slope * depth if slope > 0.0 else -float("inf")
        self._focal = shape.focal if known else (margin or everywhere)
        self.domain = Domain("where one point of the set is nearest", self._margin)
        if known and shape.expression:
            inner = f"abs({shape.expression})" if self.absolute else shape.expression
            scaled = inner if slope == 1.0 else f"{slope!r}*({inner})"
            self.expression = f"{scaled} + {level!r}" if level else scaled
        elif not known:
            self.verdict, self.speed = Verdict.UNDECIDED, None
            # A function of no points of R^2 stays undecided unless its dimension is given.
            with suppress(RuntimeError, IndexError):
                self.verdict, self.speed = self._measured()

    def value(self, x: Tensor) -> Tensor:
        distance = one_each(self.shape(x), x, "shape")
        return self.slope * (distance.abs() if self.absolute else distance) + self.level

    def _measured(self) -> tuple[Verdict, float | None]:
        """Return verdict and speed of a function, undecided where it has no derivatives."""
        rows, speeds = [], set()
        for x in self.sample(16):
            g, H = cast(Tensor, jacobian(self.value, x)), cast(Tensor, hessian(self.value, x))
            Hg, speed = H @ g, float(g.norm())
            across = Hg - g * (g @ Hg) / speed**2
            unit = speed * max(float(torch.linalg.matrix_norm(H, 2)), 1e-4 * speed)
            if 0.0 < unit < float("inf"):
                rows.append((float(Hg.norm()) / unit, float(across.norm()) / unit))
                speeds.add(round(speed, 10))
        if not rows:
            return Verdict.UNDECIDED, None
        crooked, bent = map(max, zip(*rows, strict=True))
        verdict = judge(crooked, bent, torch.finfo(torch.float64).eps)
        one = verdict is Verdict.CORRIDOR and len(speeds) == 1
        return verdict, speeds.pop() if one else None

    def _margin(self, x: Tensor) -> Tensor:
        # The absolute value adds a kink on the set itself.
        focal = self._focal(x)
        return focal.minimum(self.shape(x).detach().abs()) if self.absolute else focal

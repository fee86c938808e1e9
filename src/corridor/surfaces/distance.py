"""Define closed sets with known distances, and corridors of distances (eikonal equation)."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from corridor.proofs import Verdict
from corridor.surfaces.base import (
    Domain,
    Surface,
    everywhere,
    judge,
    nonzero,
    one_each,
    positive,
    vector,
)


class Shape:
    """Represent a closed set by its distance ``shape(x)`` and the room ``shape.focal(x)``.

    The room is the distance to the cut locus, or a lower bound of it. The cut locus contains the
    points with two nearest points, and the points where the Hessian of the distance jumps.

    Attributes:
        dimension: n.
        signed: True if the distance is negative inside. Default: True.
        depth: largest distance of an inner point from the boundary, inf if unknown. Default: 0.
        expression: the distance as text in x, y, ..., or None.
        exact: False if the room is an estimate that can be too large. Default: True.
    """

    dimension: int
    signed: bool = True
    depth: float = 0.0
    expression: str | None = None
    exact: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """Return the distance of points [..., n], shape [...]."""
        raise NotImplementedError

    def focal(self, x: Tensor) -> Tensor:
        """Return the room of points, a 1-Lipschitz function, shape [...]."""
        raise NotImplementedError


class Sphere(Shape):
    """Represent a sphere in R^n, which is a circle in the plane.

    Args:
        center: numbers [n]. Default: the origin of the plane.
        radius: positive. Default: 1.
    """

    def __init__(self, center: object = (0.0, 0.0), radius: float = 1.0) -> None:
        self.center, self.radius = vector(center, "center"), positive(radius, "radius")
        self.dimension, self.depth = len(self.center), radius
        if self.dimension == 2:
            a, b = self.center.tolist()
            self.expression = f"sqrt((x - {a!r})**2 + (y - {b!r})**2) - {radius!r}"

    def __call__(self, x: Tensor) -> Tensor:
        return self.focal(x) - self.radius

    def focal(self, x: Tensor) -> Tensor:
        return (x - self.center.to(x)).norm(dim=-1)


class CircleInSpace(Shape):
    """Represent a circle in R^3, in the plane z = 0, whose tubes are tori.

    Args:
        radius: positive. Default: 1.
    """

    dimension = 3
    signed = False

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = positive(radius, "radius")
        self.expression = f"sqrt((sqrt(x**2 + y**2) - {radius!r})**2 + z**2)"

    def __call__(self, x: Tensor) -> Tensor:
        across = x[..., :2].norm(dim=-1) - self.radius
        return torch.stack([across, x[..., 2]], dim=-1).norm(dim=-1)

    def focal(self, x: Tensor) -> Tensor:
        # The Hessian jumps on the axis and on the circle.
        return torch.minimum(x[..., :2].norm(dim=-1), self(x))


class Box(Shape):
    """Represent an axis-parallel box about the origin, smooth inside up to the ridges.

    The distance inside is minus the distance to the nearest face.

    Args:
        half_widths: positive numbers [n], n at least 2. Default: (1, 1).

    Example:
        >>> Box([1.0, 1.0])(torch.tensor([4.0, 5.0])), Box([1.0, 1.0])(torch.tensor([0.0, 0.5]))
        (tensor(5.), tensor(-0.5000))
    """

    def __init__(self, half_widths: object = (1.0, 1.0)) -> None:
        self.half_widths = vector(half_widths, "half_widths")
        self.dimension = len(self.half_widths)
        if self.dimension < 2 or not (self.half_widths > 0.0).all():
            got = self.half_widths.tolist()
            raise ValueError(f"half_widths must be two or more positive numbers, got {got}")
        self.depth = float(self.half_widths.min())

    def __call__(self, x: Tensor) -> Tensor:
        beyond = x.abs() - self.half_widths.to(x)
        outside = (beyond > 0.0).any(-1)
        # The ones keep the gradient of the unused branch finite.
        excess = torch.where(outside[..., None], beyond.relu(), 1.0)
        return torch.where(outside, excess.norm(dim=-1), beyond.amax(-1))

    def focal(self, x: Tensor) -> Tensor:
        beyond = x.abs() - self.half_widths.to(x)
        top, count = beyond.topk(2, dim=-1), (beyond > 0.0).sum(-1)
        # Ridges lie at 45 degrees to the faces, or in the middle between opposite faces.
        ridge = (top.values[..., 0] - top.values[..., 1]) / 2.0**0.5
        middle = x.abs().gather(-1, top.indices[..., :1])[..., 0]
        # Outside, the Hessian jumps where the faces of the distance meet edges and corners.
        others = beyond.abs().scatter(-1, top.indices[..., :1], torch.inf).amin(-1)
        outer = torch.where(count == 1, others, beyond.abs().amin(-1)) / 2.0**0.5
        inner = torch.where(count == 0, ridge, outer).minimum(middle)
        return torch.where(count < 2, inner, outer)


class Points(Shape):
    """Represent a finite set of points, whose distance has kinks where two points are equally near.

    Args:
        points: one row per point, numbers [k, n].
    """

    signed = False

    def __init__(self, points: Sequence[Sequence[float]]) -> None:
        self.points = torch.as_tensor(points, dtype=torch.float64)
        if self.points.dim() != 2 or not len(self.points):
            raise ValueError(f"points must be a list of points, got {points!r}")
        self.dimension = self.points.shape[1]

    def _all(self, x: Tensor) -> Tensor:
        return (x[..., None, :] - self.points.to(x)).norm(dim=-1)

    def __call__(self, x: Tensor) -> Tensor:
        return self._all(x).amin(-1)

    def focal(self, x: Tensor) -> Tensor:
        if len(self.points) == 1:
            return self(x)
        nearest, second = self._all(x).topk(2, dim=-1, largest=False).values.unbind(-1)
        return torch.minimum(nearest, (second - nearest) / 2.0)


class Segment(Shape):
    """Represent a straight segment in R^n, whose neighborhoods are capsules.

    Args:
        start: numbers [n]. Default: (-1, 0).
        end: numbers [n], other than the start. Default: (1, 0).
    """

    signed = False

    def __init__(self, start: object = (-1.0, 0.0), end: object = (1.0, 0.0)) -> None:
        self.start, self.end = vector(start, "start"), vector(end, "end")
        if self.start.shape != self.end.shape or torch.equal(self.start, self.end):
            raise ValueError("start and end must be two different points of one space")
        self.dimension, way = len(self.start), self.end - self.start
        self.length = float(way.norm())
        self.axis = way / self.length

    def _along(self, x: Tensor) -> Tensor:
        return (x - self.start.to(x)) @ self.axis.to(x)

    def __call__(self, x: Tensor) -> Tensor:
        along = self._along(x).clamp(0.0, self.length)
        return (x - (self.start.to(x) + along[..., None] * self.axis.to(x))).norm(dim=-1)

    def focal(self, x: Tensor) -> Tensor:
        along = self._along(x)
        # The Hessian of the distance jumps at the planes through the ends.
        return self(x).minimum(along.abs()).minimum((along - self.length).abs())


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
        exact = not known or shape.exact
        self.domain = Domain("where one point of the set is nearest", self._margin, exact)
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
        focal = self._focal(x)
        return focal.minimum(self.shape(x).detach().abs()) if self.absolute else focal

"""Closed sets and shapes with their distances: what `DistanceTo` makes corridors of.

A shape is called with points [..., n] and gives their distance to it, negative inside where
the shape has an inside; `focal` bounds from below how far a point is from where that distance is
not smooth (the cut locus: points with two nearest points, or none).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from corridor.surfaces.base import gap, norm, vector


class Shape:
    """A closed set: ``shape(x)`` is the distance, ``shape.focal(x)`` the room to the cut locus.

    Attributes:
        dimension: n.
        signed: whether the distance is negative inside.
        expression: the distance as text in x, y, ..., if it has a closed form.
    """

    dimension: int
    signed = True
    expression: str | None = None

    @property
    def depth(self) -> float:
        """The largest distance of a point inside from the boundary."""
        return 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Distance of points [..., n], shape [...]."""
        raise NotImplementedError

    def focal(self, x: Tensor) -> Tensor:
        """Lower bound of the distance to the cut locus, 1-Lipschitz, shape [...]."""
        raise NotImplementedError


class Sphere(Shape):
    """The sphere of a radius about a centre; a circle in the plane.

    Example:
        >>> import torch
        >>> Sphere([0.0, 0.0], 1.0)(torch.tensor([3.0, 4.0]))
        tensor(4.)
    """

    def __init__(self, center: object = (0.0, 0.0), radius: float = 1.0) -> None:
        if not radius > 0.0:
            raise ValueError(f"radius must be positive, got {radius}")
        self.center, self.radius = vector(center, "center"), radius
        self.dimension = len(self.center)
        if self.dimension == 2:
            a, b = self.center.tolist()
            self.expression = f"sqrt((x - {a!r})**2 + (y - {b!r})**2) - {radius!r}"

    @property
    def depth(self) -> float:
        """The radius."""
        return self.radius

    def __call__(self, x: Tensor) -> Tensor:
        """``||x - center|| - radius``."""
        return norm(gap(x, self.center)) - self.radius

    def focal(self, x: Tensor) -> Tensor:
        """The distance to the centre."""
        return norm(gap(x, self.center))


class CircleInSpace(Shape):
    """A circle in R^3, in the plane z = 0: its tubes are tori.

    Example:
        >>> import torch
        >>> CircleInSpace(1.0)(torch.tensor([4.0, 0.0, 4.0]))
        tensor(5.)
    """

    dimension = 3
    signed = False

    def __init__(self, radius: float = 1.0) -> None:
        if not radius > 0.0:
            raise ValueError(f"radius must be positive, got {radius}")
        self.radius = radius
        self.expression = f"sqrt((sqrt(x**2 + y**2) - {radius!r})**2 + z**2)"

    def __call__(self, x: Tensor) -> Tensor:
        """``sqrt((sqrt(x^2 + y^2) - radius)^2 + z^2)``."""
        across = norm(x[..., :2]) - self.radius
        return norm(torch.stack([across, x[..., 2]], dim=-1))

    def focal(self, x: Tensor) -> Tensor:
        """The nearer of the axis and the circle itself."""
        return torch.minimum(norm(x[..., :2]), self(x))


class Box(Shape):
    """An axis-parallel box: faces, edges and corners; its inside is smooth up to the ridges.

    Example:
        >>> import torch
        >>> Box([1.0, 1.0])(torch.tensor([4.0, 5.0])), Box([1.0, 1.0])(torch.tensor([0.0, 0.5]))
        (tensor(5.), tensor(-0.5000))
    """

    def __init__(self, half_widths: object = (1.0, 1.0)) -> None:
        self.half_widths = vector(half_widths, "half_widths")
        if not (self.half_widths > 0.0).all():
            raise ValueError(f"half_widths must be positive, got {self.half_widths.tolist()}")
        self.dimension = len(self.half_widths)
        if self.dimension < 2:
            raise ValueError("a box has at least two dimensions; an interval is a Sphere")

    @property
    def depth(self) -> float:
        """The smallest half width."""
        return float(self.half_widths.min())

    def _beyond(self, x: Tensor) -> Tensor:
        return x.abs() - self.half_widths.to(x)

    def __call__(self, x: Tensor) -> Tensor:
        """Norm of what lies beyond the faces outside, the nearest face inside."""
        beyond = self._beyond(x)
        outside = (beyond > 0.0).any(-1)
        positive = torch.where(outside[..., None], beyond.relu(), torch.ones_like(beyond))
        return torch.where(outside, norm(positive), beyond.amax(-1))

    def focal(self, x: Tensor) -> Tensor:
        """Room to the ridges inside; outside, to where faces meet edges and edges corners.

        There the distance is once differentiable and its Hessian jumps.
        """
        beyond = self._beyond(x)
        top = beyond.topk(2, dim=-1)
        ridge = top.values[..., 0] - top.values[..., 1]
        others = beyond.abs().scatter(-1, top.indices[..., :1], torch.inf).amin(-1)
        count = (beyond > 0.0).sum(-1)
        room = torch.where(
            count == 0, ridge, torch.where(count == 1, others, beyond.abs().amin(-1))
        )
        return room / 2.0**0.5


class Points(Shape):
    """A finite set of points: the distance to the nearest, kinked between them (Voronoi faces).

    Example:
        >>> import torch
        >>> Points([[0.0, 0.0], [10.0, 0.0]])(torch.tensor([3.0, 4.0]))
        tensor(5.)
    """

    signed = False

    def __init__(self, points: Sequence[Sequence[float]]) -> None:
        self.points = torch.as_tensor(points, dtype=torch.float64)
        if self.points.dim() != 2 or not len(self.points):
            raise ValueError(f"points must be a list of points, got {points!r}")
        self.dimension = self.points.shape[1]

    def _all(self, x: Tensor) -> Tensor:
        return norm(x[..., None, :] - self.points.to(x))

    def __call__(self, x: Tensor) -> Tensor:
        """The distance to the nearest point."""
        return self._all(x).amin(-1)

    def focal(self, x: Tensor) -> Tensor:
        """Half the lead of the nearest point, or the distance to it."""
        nearest = self._all(x).topk(min(2, len(self.points)), dim=-1, largest=False).values
        if len(self.points) == 1:
            return nearest[..., 0]
        return torch.minimum(nearest[..., 0], (nearest[..., 1] - nearest[..., 0]) / 2.0)


class Segment(Shape):
    """A straight segment in R^n; its rounded neighbourhoods are capsules.

    Example:
        >>> import torch
        >>> Segment([0.0, 0.0], [1.0, 0.0])(torch.tensor([4.0, 4.0]))
        tensor(5.)
    """

    signed = False

    def __init__(self, start: object = (-1.0, 0.0), end: object = (1.0, 0.0)) -> None:
        self.start, self.end = vector(start, "start"), vector(end, "end")
        if self.start.shape != self.end.shape or torch.equal(self.start, self.end):
            raise ValueError("start and end must be two different points of one space")
        self.dimension = len(self.start)

    def _along(self, x: Tensor) -> tuple[Tensor, float]:
        axis = self.end - self.start
        length = float(axis.norm())
        return gap(x, self.start) @ (axis / length).to(x), length

    def __call__(self, x: Tensor) -> Tensor:
        """The distance to the nearest point of the segment."""
        along, length = self._along(x)
        axis = ((self.end - self.start) / length).to(x)
        foot = self.start.to(x) + along.clamp(0.0, length)[..., None] * axis
        return norm(x - foot)

    def focal(self, x: Tensor) -> Tensor:
        """Distance to the segment, and to the walls at its ends, where the Hessian jumps."""
        along, length = self._along(x)
        return torch.minimum(self(x), torch.minimum(along.abs(), (along - length).abs()))


class Curve(Shape):
    """A closed smooth curve ``t -> point(t)``, t in [0, 2 pi), by its nearest point.

    The curve is read once, at equally spaced times, and kept as the trigonometric polynomial
    through these places. The nearest of them is improved by Newton's method; one more Newton step
    with derivatives carries those of the foot point, which makes Hessians exact.

    Args:
        point: t [m] to points [m, n], smooth and of period 2 pi.
        samples: of the curve, enough to tell its branches apart.
        signed: negative inside; for simple closed curves in the plane, run counter-clockwise.

    Raises:
        ValueError: the samples do not resolve the curve, or it has no inside.

    Example:
        >>> import torch
        >>> ring = Curve(lambda t: torch.stack([t.cos(), t.sin()], -1))
        >>> x = torch.tensor([3.0, 4.0], dtype=torch.float64)
        >>> round(float(ring(x)), 12), round(float(ring(x / 10)), 12)
        (4.0, -0.5)
    """

    def __init__(
        self, point: Callable[[Tensor], Tensor], *, samples: int = 720, signed: bool = True
    ) -> None:
        self.signed = signed
        self.times = torch.arange(samples, dtype=torch.float64) * (2.0 * torch.pi / samples)
        with torch.no_grad():
            self.places = point(self.times).double()
        if self.places.dim() != 2 or not torch.isfinite(self.places).all():
            raise ValueError("point must map times [m] to finite places [m, n]")
        self.dimension = self.places.shape[-1]
        if signed and self.dimension != 2:
            raise ValueError(f"only plane curves have an inside, got dimension {self.dimension}")
        self.waves, self.rows = self._series()

    def _series(self) -> tuple[Tensor, Tensor]:
        """Frequencies [k], and coefficients [2 k, n] of their cosines and sines."""
        spectrum = torch.fft.rfft(self.places, dim=0) * (2.0 / len(self.times))
        spectrum[0] *= 0.5
        size = spectrum.abs().amax(1)
        if size[-(len(size) // 8) :].max() > 1e-7 * size.max():
            raise ValueError("the curve is not smooth, or needs more samples")
        kept = size > 1e-15 * size.max()
        waves = torch.arange(len(size), dtype=torch.float64)[kept]
        return waves, torch.cat([spectrum[kept].real, -spectrum[kept].imag])

    def point(self, t: Tensor) -> Tensor:
        """Places [..., n] at times [...]."""
        return self._motion(t)[0]

    @property
    def depth(self) -> float:
        """The radius of the largest circle inside, by a search that narrows down on it."""
        if not self.signed:
            return 0.0
        low, high = self.places.amin(0), self.places.amax(0)
        center, width, best = (low + high) / 2.0, (high - low) / 2.0, 0.0
        ticks = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64)
        with torch.no_grad():
            while float(width.max()) > 1e-12 * float((high - low).max()):
                around = torch.cartesian_prod(ticks, ticks) * width + center
                inside = -self(around)
                center, best = around[inside.argmax()], float(inside.max())
                width = width / 4.0
        return best

    def _motion(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Place, velocity and acceleration at t."""
        k, rows = self.waves.to(t), self.rows.to(t)
        angle = t[..., None] * k
        cos, sin = torch.cos(angle), torch.sin(angle)
        place = torch.cat([cos, sin], dim=-1) @ rows
        first = torch.cat([-k * sin, k * cos], dim=-1) @ rows
        second = torch.cat([-k * k * cos, -k * k * sin], dim=-1) @ rows
        return place, first, second

    def _newton(self, x: Tensor, t: Tensor) -> Tensor:
        place, first, second = self._motion(t)
        away = place - x
        slope = (away * first).sum(-1)
        bend = first.square().sum(-1) + (away * second).sum(-1)
        return t - slope / torch.where(bend > 0.0, bend, first.square().sum(-1))

    def foot(self, x: Tensor) -> Tensor:
        """Parameter of the nearest point, with its first derivatives by x, shape [...]."""
        with torch.no_grad():
            distances = norm(x[..., None, :] - self.places.to(x))
            t = self.times.to(x)[distances.argmin(-1)]
            for _ in range(3):
                t = self._newton(x, t)
        return self._newton(x, t)

    def __call__(self, x: Tensor) -> Tensor:
        """The distance to the nearest point of the curve, signed if asked for."""
        place, first, _ = self._motion(self.foot(x))
        away = x - place
        if not self.signed:
            return norm(away)
        normal = torch.stack([first[..., 1], -first[..., 0]], dim=-1)
        return (away * normal).sum(-1) / norm(normal)

    def focal(self, x: Tensor) -> Tensor:
        """The nearer of the Voronoi face of another branch and the centre of curvature.

        Both are estimates to first order in the distance to them.
        """
        with torch.no_grad():
            near, rival = self._branches(x)
            place, first, second = self._motion(self.foot(x))
            speed = first.square().sum(-1)
            bent = second - ((second * first).sum(-1) / speed)[..., None] * first
            curvature = norm(bent) / speed
            slack = 1.0 - ((x - place) * second).sum(-1) / speed
            room = torch.minimum((rival - near) / 2.0, slack / curvature)
            return room if self.signed else torch.minimum(room, near)

    def _branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Distance to the nearest sample, and to the next local minimum along the curve."""
        distances = norm(x[..., None, :] - self.places.to(x))
        near, where = distances.min(-1)
        count = len(self.times)
        apart = (torch.arange(count, device=x.device) - where[..., None]).abs()
        apart = torch.minimum(apart, count - apart)
        lowest = (distances <= distances.roll(1, -1)) & (distances <= distances.roll(-1, -1))
        return near, torch.where(lowest & (apart > 1), distances, torch.inf).amin(-1)

"""Represent closed curves and zero sets, and find their nearest points by Newton's method."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from corridor.surfaces.base import one_each
from corridor.surfaces.distance import Shape

Bounds: TypeAlias = Sequence[tuple[float, float]]


class Curve(Shape):
    """Represent a closed smooth curve ``t -> point(t)``, t in [0, 2 pi).

    The curve is stored as the trigonometric polynomial through samples at equal times. Newton's
    method improves the nearest sample. One more step with derivatives makes the Hessian exact.

    Args:
        point: function from times [m] to points [m, n], smooth and of period 2 pi.
        samples: number of samples, enough to separate the branches of the curve. Default: 720.
        signed: True if negative inside a simple, counter-clockwise plane curve. Default: True.
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
            got = self.dimension
            raise ValueError(f"a signed curve must have dimension 2, got {got}; pass signed=False")
        spectrum = torch.fft.rfft(self.places, dim=0) * (2.0 / samples)
        spectrum[0] *= 0.5
        size = spectrum.abs().amax(1)
        # The highest frequencies vanish if the samples resolve the curve.
        if size[-(len(size) // 8) :].max() > 1e-7 * size.max():
            raise ValueError("point must be smooth at this number of samples; raise samples=")
        kept = size > 1e-15 * size.max()  # the rest is rounding
        # Frequencies [k], and coefficients [2 k, n] of their cosines and sines.
        self.waves = torch.arange(len(size), dtype=torch.float64)[kept]
        self.rows = torch.cat([spectrum[kept].real, -spectrum[kept].imag])
        # Radii of curvature [m], 0 at a cusp, and normals [m, n].
        _, first, second = self._motion(self.times)
        speed = first.square().sum(-1)
        bent = second - ((second * first).sum(-1) / speed)[:, None] * first
        self.bends = (speed / bent.norm(dim=-1)).nan_to_num(0.0, posinf=torch.inf)
        self.normals = torch.nn.functional.normalize(bent.nan_to_num(0.0))

    def point(self, t: Tensor) -> Tensor:
        """Return the places [..., n] at times [...]."""
        return self._motion(t)[0]

    @property
    def depth(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the radius of the largest circle inside, by a search on finer grids."""
        if not self.signed:
            return 0.0
        low, high = self.places.amin(0), self.places.amax(0)
        center, width, best = (low + high) / 2.0, (high - low) / 2.0, 0.0
        ticks = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64)
        with torch.no_grad():
            while float(width.max()) > 1e-12 * float((high - low).max()):
                around = torch.cartesian_prod(ticks, ticks) * width + center
                inside = -self(around)
                center, best, width = around[inside.argmax()], float(inside.max()), width / 4.0
        return best

    def _motion(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return place, velocity and acceleration at t."""
        k, rows = self.waves.to(t), self.rows.to(t)
        angle = t[..., None] * k
        cos, sin = torch.cos(angle), torch.sin(angle)
        waves = (cos, sin), (-k * sin, k * cos), (-k * k * cos, -k * k * sin)
        place, first, second = (torch.cat(pair, dim=-1) @ rows for pair in waves)
        return place, first, second

    def _distances(self, x: Tensor) -> Tensor:
        return (x.detach()[..., None, :] - self.places.to(x)).norm(dim=-1)

    def foot(self, x: Tensor) -> Tensor:
        """Return the time of the nearest point, with its first derivatives by x, shape [...]."""
        t = self.times.to(x)[self._distances(x).argmin(-1)]
        for _ in range(4):
            t = t.detach()  # only the last of Newton's steps is differentiated
            place, first, second = self._motion(t)
            away, square = place - x, first.square().sum(-1)
            bend = square + (away * second).sum(-1)
            # Where the distance is not convex, Newton's method would find its maximum.
            t = t - (away * first).sum(-1) / torch.where(bend > 0.0, bend, square)
        return t

    def __call__(self, x: Tensor) -> Tensor:
        place, first, _ = self._motion(self.foot(x))
        away = x - place
        if not self.signed:
            return away.norm(dim=-1)
        normal = torch.stack([first[..., 1], -first[..., 0]], dim=-1)
        return (away * normal).sum(-1) / normal.norm(dim=-1)

    def focal(self, x: Tensor) -> Tensor:
        """Return a lower bound of the distance to the cut locus, up to the spacing of samples."""
        # Within r of x the distance has one minimum on the arc around the nearest sample where the
        # center of curvature is farther than r, if the other samples are farther than D(x) + 2 r.
        with torch.no_grad():
            distances, count = self._distances(x), len(self.times)
            near, where = distances.min(-1)
            across = ((x[..., None, :] - self.places.to(x)) * self.normals.to(x)).sum(-1)
            ahead = (where[..., None] + torch.arange(count + 1, device=x.device)) % count
            bend = (self.bends.to(x) - across).gather(-1, ahead)
            arcs = bend.cummin(-1).values.maximum(bend.flip(-1).cummin(-1).values.flip(-1))
            rival = (distances.gather(-1, ahead) - near[..., None]) / 2.0
            room = torch.maximum(arcs, rival).amin(-1).clamp(min=0.0)
            return room if self.signed else torch.minimum(room, near)


def flower(
    petals: int = 5, depth: float = 0.18, *, radius: float = 1.0, center: Sequence[float] = (0, 0)
) -> Curve:
    """Return a wavy closed curve, ``r = radius (1 + depth cos(petals t))``.

    Args:
        petals: number of waves, at least 1. Default: 5.
        depth: relative height of the waves, in [0, 1). Default: 0.18.
        radius: mean radius, positive. Default: 1.
        center: two numbers. Default: the origin.
    """

    def point(t: Tensor) -> Tensor:
        r = radius * (1.0 + depth * torch.cos(petals * t))
        return torch.stack([center[0] + r * torch.cos(t), center[1] + r * torch.sin(t)], dim=-1)

    return Curve(point)


class LevelSet(Shape):
    """Represent the zero set of a smooth function, with the sign of the function.

    The set is sampled on a grid, and Newton's method improves the nearest sample. The distance, its
    gradient and its Hessian are exact to rounding; its third derivatives are 0.

    Args:
        function: from points [..., n] to numbers [...] in twice differentiable torch, of any scale.
        bounds: pairs (low, high), one per coordinate, n = 2 or 3, around all branches.
        cells: cells of the grid per side, enough to separate branches. Default: 100.

    Example:
        >>> ring = LevelSet(lambda x: x.square().sum(-1) - 1.0, [(-2.0, 2.0)] * 2)
        >>> x = torch.tensor([3.0, 4.0], dtype=torch.float64)
        >>> round(float(ring(x)), 12), round(float(ring(x / 10)), 12)
        (4.0, -0.5)
    """

    depth = float("inf")
    exact = False

    def __init__(
        self, function: Callable[[Tensor], Tensor], bounds: Bounds, *, cells: int = 100
    ) -> None:
        if len(bounds) not in (2, 3) or any(not low < high for low, high in bounds):
            raise ValueError(f"bounds must be 2 or 3 pairs (low, high), got {list(bounds)}")
        self.function, self.dimension = function, len(bounds)
        low, high = torch.tensor(bounds, dtype=torch.float64).unbind(-1)
        self.cell = float((high - low).max()) / cells
        axes = [torch.linspace(a, b, cells + 1, dtype=torch.float64) for a, b in bounds]
        q = torch.cartesian_prod(*axes)
        value, g, _ = self._derivatives(q, second=False)
        # Within the diagonal of a cell, to first order: every crossed cell has a sample.
        q = q[value.abs() <= g.norm(dim=-1) * self.cell * self.dimension**0.5]
        value, g, _ = self._derivatives(q, second=False)
        for _ in range(20):
            q = q - g * (value / g.square().sum(-1))[:, None]
            value, g, _ = self._derivatives(q, second=False)
        on_it = value.abs() <= 1e-9 * self.cell * g.norm(dim=-1)
        kept = on_it & ((q >= low - self.cell) & (q <= high + self.cell)).all(-1)
        if not kept.any():
            raise ValueError(f"function must be 0 somewhere between the bounds, got {list(bounds)}")
        self.samples, self.normals = q[kept], (g / g.norm(dim=-1, keepdim=True))[kept]

    def _derivatives(self, q: Tensor, *, second: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Return value [m], gradient [m, n] and Hessian [m, n, n] of the function."""
        with torch.enable_grad():
            q = q.detach().requires_grad_()
            value = one_each(self.function(q), q, "function")
            (g,) = torch.autograd.grad(value.sum(), q, create_graph=second)
            H = torch.zeros(*q.shape, self.dimension, dtype=q.dtype, device=q.device)
            if second and g.requires_grad:
                for i, row in enumerate(g.sum(0)):
                    H[:, i] = torch.autograd.grad(row, q, None, True, materialize_grads=True)[0]
        return value.detach(), g.detach(), H

    def _nearest(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return nearest points, signed distances, normals and curvatures [m, n, n] at x [m, n]."""
        # Newton's method solves q + s grad(q) = x and function(q) = 0.
        n = self.dimension
        q = self.samples.to(x)[torch.cdist(x, self.samples.to(x)).argmin(-1)]
        eye = torch.eye(n).to(x)
        value, g, H = self._derivatives(q)
        s = ((x - q) * g).sum(-1) / g.square().sum(-1)
        for _ in range(8):  # quadratic convergence: the number of right digits doubles
            top = torch.cat([eye + s[:, None, None] * H, g[..., None]], dim=-1)
            row = torch.cat([g, torch.zeros_like(s)[:, None]], dim=-1)[:, None]
            residual = torch.cat([q + s[:, None] * g - x, value[:, None]], dim=-1)
            change = torch.linalg.solve_ex(torch.cat([top, row], dim=-2), residual)[0].nan_to_num()
            # A long step would leave the branch of the nearest sample.
            q, s = q - change[:, :n].clamp(-self.cell, self.cell), s - change[:, n]
            value, g, H = self._derivatives(q)
        size = g.norm(dim=-1)
        normal = g / size[:, None]
        across = eye - normal[:, :, None] * normal[:, None, :]
        return q, s * size, normal, across @ H @ across / size[:, None, None]

    def __call__(self, x: Tensor) -> Tensor:
        at = x.detach().reshape(-1, self.dimension)
        _, distance, normal, bend = self._nearest(at.double())
        # The surface at the distance d has the curvature S (1 + d S)^-1.
        eye = torch.eye(self.dimension).to(bend)
        H = torch.linalg.solve_ex(eye + distance[:, None, None] * bend, bend)[0].to(x)
        # Constants in a quadratic form of 0: the values of the derivatives, for autograd.
        step = x.reshape(-1, self.dimension) - at
        moved = (step * normal.to(x)).sum(-1) + 0.5 * torch.einsum("mi,mij,mj->m", step, H, step)
        return (distance.to(x) + moved).reshape(x.shape[:-1])

    def focal(self, x: Tensor) -> Tensor:
        """Estimate the distance to the cut locus, to first order in that distance."""
        at = x.detach().reshape(-1, self.dimension).double()
        q, distance, normal, bend = self._nearest(at)
        curvature = torch.linalg.eigvalsh(bend)
        room = ((1.0 + distance[:, None] * curvature) / curvature).abs().nan_to_num(torch.inf)
        samples = self.samples.to(at)
        lead = torch.cdist(at, samples).square() - distance.square()[:, None]
        bisector = lead / (2.0 * torch.cdist(q, samples))
        # Samples with about the normal of the nearest point belong to its branch.
        other = normal @ self.normals.to(at).T < 0.5
        rival = torch.where(other, bisector, torch.inf).amin(-1)
        return torch.minimum(room.amin(-1), rival).to(x).reshape(x.shape[:-1])

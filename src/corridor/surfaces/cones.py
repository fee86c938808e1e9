"""Cones (examples 2.3 and 2.4) and the powers of norms, which are corridors at power one only."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor.surfaces.base import Domain, Surface, Verdict, gap, norm, vector
from corridor.surfaces.linear import variable_names


class _Radial(Surface):
    """A function of the distance to a centre, kinked or critical there."""

    def __init__(self, center: object | None) -> None:
        self.center = torch.zeros(()) if center is None else vector(center, "center")
        self.dimension = None if center is None else len(self.center)
        where = "the origin" if center is None else f"{self.center.tolist()}"
        self.domain = Domain(f"all of R^n but {where}", self._radius)

    def _radius(self, x: Tensor) -> Tensor:
        return norm(gap(x, self.center))

    def _radius_squared(self) -> str:
        """``||theta - center||^2`` as text, in two variables unless the centre says otherwise."""
        center = self.center.tolist() if self.dimension else [0.0, 0.0]
        names = variable_names(len(center))
        parts = [
            f"({n} - {c!r})**2" if c else f"{n}**2" for n, c in zip(names, center, strict=True)
        ]
        return " + ".join(parts)


class Cone(_Radial):
    """``E = slope ||theta - center||``: convex for a positive slope, concave for a negative one.

    ``g = slope u`` with u the unit vector from the centre, ``H = slope (I - u u^T) / r``, so
    ``Hg = 0``. The flow lines of the convex cone are its generators, and end at the apex after
    the time ``r / slope``.

    Args:
        slope: of the generators, not 0.
        center: the apex, numbers [n]; the origin of any R^n by default.

    Example:
        >>> import torch
        >>> cone = Cone()
        >>> float(cone(torch.tensor([3.0, 4.0]))), cone.f_star, Cone(-1.0).f_star
        (5.0, 0.0, -inf)
    """

    verdict = Verdict.CORRIDOR

    def __init__(self, slope: float = 1.0, center: object | None = None) -> None:
        if not slope:
            raise ValueError("slope must not be 0: that cone is a plain")
        super().__init__(center)
        self.slope = slope
        self.speed = abs(slope)
        self.f_star = 0.0 if slope > 0 else -float("inf")
        scale = "" if slope == 1 else f"{slope!r}*"
        self.expression = f"{scale}sqrt({self._radius_squared()})"

    def value(self, x: Tensor) -> Tensor:
        """``slope ||x - center||``."""
        return self.slope * self._radius(x)


class PowerNorm(_Radial):
    """``E = ||theta||^p``: straight flow lines whose speed changes unless p = 1.

    One CLR step multiplies the loss by ``((p - 1) / p)^p``; the corridor number is
    ``(p - 1) / (2 p)``, and p is the multiple of CLR that reaches the minimum at once.

    Args:
        power: p, at least 1.
        center: where the loss is 0; the origin of any R^n by default.

    Example:
        >>> import torch
        >>> float(PowerNorm(2.0)(torch.tensor([3.0, 4.0])))
        25.0
    """

    def __init__(self, power: float, center: object | None = None) -> None:
        if not power >= 1.0:
            raise ValueError(f"power must be at least 1, got {power}")
        super().__init__(center)
        self.power = power
        self.verdict = Verdict.CORRIDOR if power == 1.0 else Verdict.WEAK
        self.speed = 1.0 if power == 1.0 else None
        if power >= 2.0:
            self.domain = Domain()
        self.expression = f"({self._radius_squared()})**{power / 2.0!r}"

    def value(self, x: Tensor) -> Tensor:
        """``||x - center||^p``."""
        if self.power == 2.0:
            return gap(x, self.center).square().sum(-1)
        return self._radius(x) ** self.power


class PNorm(Surface):
    """``E = ||theta||_p``: a corridor for p = 1, 2 and infinity only, in two or more dimensions.

    ``||g||_q = 1`` in the dual norm, 1/p + 1/q = 1, which is the Euclidean speed of g only where
    the two agree: ``||g||_2`` is constant on the cones over faces (p = 1, infinity) and for p = 2.

    Args:
        p: at least 1; ``float("inf")`` for the maximum norm.

    Example:
        >>> import torch
        >>> float(PNorm(1.0)(torch.tensor([3.0, -4.0])))
        7.0
    """

    def __init__(self, p: float) -> None:
        if not p >= 1.0:
            raise ValueError(f"p must be at least 1, got {p}")
        self.p = p
        self.verdict = Verdict.CORRIDOR if p in (1.0, 2.0, float("inf")) else Verdict.NEITHER
        self.speed = 1.0 if p in (2.0, float("inf")) else None
        self.domain = Domain("away from the kinks of the norm", self._margin)
        inner = f"(abs(x)**{p!r} + abs(y)**{p!r})**{1.0 / p!r}"
        self.expression = {1.0: "abs(x) + abs(y)", float("inf"): "max(abs(x), abs(y))"}.get(
            p, inner
        )

    def value(self, x: Tensor) -> Tensor:
        """``||x||_p``."""
        return torch.linalg.vector_norm(x, self.p, dim=-1)

    def _margin(self, x: Tensor) -> Tensor:
        if self.p == 2.0:
            return norm(x)
        size = x.abs()
        if self.p == float("inf") and x.shape[-1] > 1:
            top = size.topk(2, dim=-1).values
            return (top[..., 0] - top[..., 1]) / 2.0**0.5
        return size.amin(-1)

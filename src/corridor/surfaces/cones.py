"""Define cones (examples 2.3 and 2.4), sums of cones, and other norms of vectors and matrices."""

from collections.abc import Sequence

import torch
from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface, nonzero, variable_names, vector


class _Radial(Surface):
    """Compute a function of the distance to a center, with a kink or critical point there."""

    def __init__(self, center: object | None) -> None:
        # A zero without dimensions broadcasts to points of any dimension.
        self.center = torch.zeros(()) if center is None else vector(center, "center")
        self.dimension = None if center is None else len(self.center)
        where = "the origin" if center is None else self.center.tolist()
        self.domain = Domain(f"all of R^n except {where}", self._radius)

    def _radius(self, x: Tensor) -> Tensor:
        return (x - self.center.to(x)).norm(dim=-1)

    def _radius_squared(self) -> str:
        """Return ``||theta - center||^2`` as text, in two variables unless there is a center."""
        center = self.center.tolist() if self.dimension else [0.0, 0.0]
        pairs = zip(variable_names(len(center)), center, strict=True)
        return " + ".join(f"({n} - {c!r})**2" if c else f"{n}**2" for n, c in pairs)


class Cone(_Radial):
    """Compute ``E = slope ||theta - center||``, a convex cone, or concave for a negative slope.

    With the unit vector u from the center, ``g = slope u``, ``H = slope (I - u u^T) / r`` and
    ``Hg = 0``. The flow lines of the convex cone end at the center after the time ``r / slope``.

    Args:
        slope: slope of the cone, not 0. Default: 1.
        center: the apex, numbers [n]. Default: the origin of any R^n.

    Example:
        >>> cone = Cone()
        >>> float(cone(torch.tensor([3.0, 4.0]))), cone.f_star, Cone(-1.0).f_star
        (5.0, 0.0, -inf)
    """

    verdict = Verdict.CORRIDOR

    def __init__(self, slope: float = 1.0, center: object | None = None) -> None:
        super().__init__(center)
        self.slope = nonzero(slope, "slope")
        self.speed = abs(slope)
        self.f_star = 0.0 if slope > 0 else -float("inf")
        scale = "" if slope == 1 else f"{slope!r}*"
        self.expression = f"{scale}sqrt({self._radius_squared()})"

    def value(self, x: Tensor) -> Tensor:
        return self.slope * self._radius(x)


class PowerNorm(_Radial):
    """Compute ``E = ||theta||^p``: straight flow lines, whose speed changes unless p = 1.

    One CLR step multiplies the loss by ``((p - 1) / p)^p``. The corridor number is
    ``(p - 1) / (2 p)``. A step of p times CLR's step size reaches the minimum.

    Args:
        power: p, at least 1.
        center: the minimum, numbers [n]. Default: the origin of any R^n.
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
        if self.power == 2.0:  # without a root the Hessian is finite at the center
            return (x - self.center.to(x)).square().sum(-1)
        return self._radius(x) ** self.power


class PNorm(Surface):
    """Compute ``E = ||theta||_p``, a corridor only for p = 1, 2 and infinity.

    The Euclidean ``||g||`` is constant only for p = 2 and on the cones over the faces of the ball
    (p = 1 and infinity). In dimension one every p gives ``|theta|``.

    Args:
        p: at least 1; ``float("inf")`` for the maximum norm.
    """

    def __init__(self, p: float) -> None:
        if not p >= 1.0:
            raise ValueError(f"p must be at least 1, got {p}")
        self.p = p
        self.verdict = Verdict.CORRIDOR if p in (1.0, 2.0, float("inf")) else Verdict.NEITHER
        self.speed = 1.0 if p in (2.0, float("inf")) else None
        self.domain = Domain("away from the kinks of the norm", self._margin)
        special = {1.0: "abs(x) + abs(y)", float("inf"): "max(abs(x), abs(y))"}
        self.expression = special.get(p, f"(abs(x)**{p!r} + abs(y)**{p!r})**{1.0 / p!r}")

    def value(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, self.p, dim=-1)

    def _margin(self, x: Tensor) -> Tensor:
        if self.p == 2.0:
            return x.norm(dim=-1)
        size = x.abs()
        if self.p == float("inf") and x.shape[-1] > 1:
            top = size.topk(2, dim=-1).values
            # Two entries can approach each other by moving at 45 degrees.
            return (top[..., 0] - top[..., 1]) / 2.0**0.5
        return size.amin(-1)


class BlockCone(Surface):
    """Compute ``E = sum_j c_j ||theta_j||`` over consecutive blocks, as the group lasso does.

    It is a corridor of speed ``sqrt(sum_j c_j^2)``, which ends where the first block is 0. Blocks
    of size one give the weighted 1-norm.

    Args:
        sizes: sizes of the blocks, positive; their sum is the dimension.
        weights: c_j, positive. Default: 1 for each block.
    """

    verdict = Verdict.CORRIDOR

    def __init__(self, sizes: Sequence[int], weights: Sequence[float] | None = None) -> None:
        self.sizes = list(sizes)
        self.weights = [1.0] * len(self.sizes) if weights is None else list(weights)
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"sizes must be positive whole numbers, got {sizes}")
        if len(self.weights) != len(self.sizes) or min(self.weights) <= 0.0:
            raise ValueError(f"weights must be {len(self.sizes)} positive numbers, got {weights}")
        self.dimension = sum(self.sizes)
        self.speed = sum(w * w for w in self.weights) ** 0.5
        self.domain = Domain("where no block is 0", lambda x: self._norms(x).amin(-1))
        names = iter(variable_names(self.dimension))
        squares = [" + ".join(f"{next(names)}**2" for _ in range(size)) for size in self.sizes]
        pairs = zip(self.weights, squares, strict=True)
        self.expression = " + ".join(f"{weight!r}*sqrt({square})" for weight, square in pairs)

    def _norms(self, x: Tensor) -> Tensor:
        return torch.stack([block.norm(dim=-1) for block in x.split(self.sizes, dim=-1)], dim=-1)

    def value(self, x: Tensor) -> Tensor:
        return self._norms(x) @ torch.tensor(self.weights, dtype=x.dtype, device=x.device)


def _singular_values(x: Tensor) -> Tensor:
    """Return the singular values of matrices, NaN for matrices with NaN or inf."""
    # LAPACK has no half precision, and raises for NaN.
    wide = x.float() if x.dtype.itemsize < 4 else x
    finite = torch.isfinite(x).all(-1).all(-1)[..., None, None]
    values = torch.linalg.svdvals(torch.where(finite, wide, 0.0))
    # The product makes both the values and their gradient NaN.
    spoiled = (wide * torch.where(finite, 0.0, torch.nan)).sum(-1).sum(-1)
    return (values + spoiled[..., None]).to(x)


class _Spectral(Surface):
    """Compute a function of the singular values of a matrix [..., m, k]."""

    verdict = Verdict.CORRIDOR
    point_dims = 2
    words: str

    def __init__(self, rows: int = 3, columns: int = 2) -> None:
        if rows < 1 or columns < 1:
            raise ValueError(f"rows and columns must be at least 1, got {rows} x {columns}")
        self.rows, self.columns, self.dimension = rows, columns, columns
        self.domain = Domain(self.words, self._margin)

    def _margin(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class NuclearNorm(_Spectral):
    """Compute ``E = sum of singular values``: ``g = U V^T``, of norm ``sqrt(rank)``.

    Along the flow every singular value falls at speed 1, until the smallest is 0. Where two
    singular values are equal the loss is smooth, but torch's second derivatives are 0/0.

    Args:
        rows: m, at least 1. Default: 3.
        columns: k, at least 1. Default: 2.
    """

    words = "matrices of full rank"

    def __init__(self, rows: int = 3, columns: int = 2) -> None:
        super().__init__(rows, columns)
        self.speed = min(rows, columns) ** 0.5

    def value(self, x: Tensor) -> Tensor:
        return _singular_values(x).sum(-1)

    def _margin(self, x: Tensor) -> Tensor:
        return _singular_values(x)[..., -1].clone()


class SpectralNorm(_Spectral):
    """Compute ``E = largest singular value``: ``g = u v^T``, of norm 1.

    Args:
        rows: m, at least 1. Default: 3.
        columns: k, at least 1. Default: 2.
    """

    words = "matrices whose largest singular value is simple"
    speed = 1.0

    def value(self, x: Tensor) -> Tensor:
        return _singular_values(x)[..., 0]

    def _margin(self, x: Tensor) -> Tensor:
        values = _singular_values(x)
        if values.shape[-1] == 1:
            return values[..., 0].clone()
        # A change of norm 1 can lower one value and raise the other by 1 / sqrt(2).
        return (values[..., 0] - values[..., 1]) / 2.0**0.5

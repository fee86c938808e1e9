"""Define linear pieces (example 2.2), and quadratics (example 2.7, appendix C)."""

import torch
from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface, nonzero, variable_names, vector


class Linear(Surface):
    """Compute ``E = a . theta + b``: g = a and H = 0, one unbounded corridor.

    Args:
        slope: a, numbers [n]. Default: (1, 0).
        offset: b. Default: 0.

    Example:
        >>> plane = Linear([3.0, 4.0])
        >>> float(plane(torch.tensor([1.0, 1.0]))), plane.speed, plane.is_corridor
        (7.0, 5.0, True)
    """

    verdict = Verdict.CORRIDOR

    def __init__(self, slope: object = (1.0, 0.0), offset: float = 0.0) -> None:
        self.slope, self.offset = vector(slope, "slope"), offset
        self.dimension = len(self.slope)
        self.speed = float(self.slope.norm())
        self.f_star = -float("inf") if self.speed else offset
        pairs = zip(self.slope.tolist(), variable_names(self.dimension), strict=True)
        terms = [f"{a!r}*{name}" for a, name in pairs if a]
        terms += [repr(float(offset))] if offset or not terms else []
        self.expression = " + ".join(terms)

    def value(self, x: Tensor) -> Tensor:
        return x @ self.slope.to(x) + self.offset


class _Bent(Linear):
    """Compute a linear function with a kink where it is zero."""

    form: str

    def __init__(self, slope: object = (1.0,), offset: float = 0.0) -> None:
        super().__init__(slope, offset)
        nonzero(float(self.slope.norm()), "slope")
        self.f_star = 0.0
        self.expression = self.form.format(self.expression)
        self.domain = Domain(
            "where a . theta + b is not 0",
            lambda x: Linear.value(self, x).abs() / self.slope.norm().to(x),
        )


class AbsoluteValue(_Bent):
    """Compute ``E = |a . theta + b|``: two half-spaces of slope ``||a||``, which end at E = 0.

    Args:
        slope: a, numbers [n], not all 0. Default: (1,), the line.
        offset: b. Default: 0.
    """

    form = "abs({})"

    def value(self, x: Tensor) -> Tensor:
        return super().value(x).abs()


class Hinge(_Bent):
    """Compute ``E = max(0, a . theta + b)``: a slope that ends in a plain, a corridor of speed 0.

    Args:
        slope: a, numbers [n], not all 0. Default: (1,), the line.
        offset: b. Default: 0.
    """

    form = "max(0, {})"

    def __init__(self, slope: object = (1.0,), offset: float = 0.0) -> None:
        super().__init__(slope, offset)
        self.speed = None

    @property
    def steepest(self) -> float:
        return float(self.slope.norm())

    def value(self, x: Tensor) -> Tensor:
        return super().value(x).relu()


class Quadratic(Surface):
    """Compute ``E = 1/2 theta^T M theta + b^T theta + c``: no corridor unless ``M = 0``.

    ``Hg = M (M theta + b)`` has the derivative ``M^2``, which is 0 only if M is 0. ``lambda I`` is
    a weak corridor, whose straight flow lines slow down.

    Args:
        matrix: M, symmetric, [n, n]. Default: the identity of any R^n.
        slope: b, [n]. Default: 0.
        offset: c. Default: 0.
    """

    def __init__(
        self, matrix: object | None = None, slope: object | None = None, *, offset: float = 0.0
    ) -> None:
        M = None if matrix is None else torch.as_tensor(matrix, dtype=torch.float64)
        b = None if slope is None else vector(slope, "slope")
        self.matrix, self.slope, self.offset = M, b, offset
        if M is not None and (M.dim() != 2 or M.shape[0] != len(M.T) or not torch.allclose(M, M.T)):
            raise ValueError(f"matrix must be square and symmetric, got shape {tuple(M.shape)}")
        sizes = {len(part) for part in (M, b) if part is not None}
        if len(sizes) > 1:
            raise ValueError(f"matrix and slope must have equal sizes, got {sorted(sizes)}")
        self.dimension = sizes.pop() if sizes else None
        n = self.dimension or 2
        M = torch.eye(n).double() if M is None else M
        b = torch.zeros(n).to(M) if b is None else b
        self.f_star = offset + _infimum(M, b)
        if not M.any():
            self.verdict, self.speed = Verdict.CORRIDOR, float(b.norm())
        elif torch.equal(M, M[0, 0] * torch.eye(n).to(M)):
            # Equal exactly: a nearly scalar matrix bends the flow lines, if slowly.
            self.verdict = Verdict.WEAK
        if n == 2 and slope is None:
            (a, b), (_, c) = M.tolist()
            terms = f"{0.5 * a!r}*x**2", f"{b!r}*x*y", f"{0.5 * c!r}*y**2", repr(float(offset))
            self.expression = " + ".join(terms)

    def value(self, x: Tensor) -> Tensor:
        moved = x if self.matrix is None else x @ self.matrix.to(x)
        linear = 0.0 if self.slope is None else x @ self.slope.to(x)
        return 0.5 * (x * moved).sum(-1) + linear + self.offset


def _infimum(M: Tensor, b: Tensor) -> float:
    """Return the infimum of ``1/2 theta^T M theta + b^T theta``."""
    values, vectors = torch.linalg.eigh(M)
    along = vectors.T @ b
    # Eigenvalues of 0 are found up to rounding.
    tiny = 1e-12 * max(float(values.abs().max()), 1e-300)
    flat = values.abs() <= tiny
    if (values < -tiny).any() or (along[flat].abs() > 0.0).any():
        return -float("inf")
    return -0.5 * float((along[~flat].square() / values[~flat]).sum())

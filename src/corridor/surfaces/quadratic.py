"""Quadratics (example 2.7, appendix C): no corridors unless they are linear."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Surface, vector


class Quadratic(Surface):
    """Compute ``E = 1/2 theta^T M theta + b^T theta + c``: no corridor unless ``M = 0``.

    ``Hg = M (M theta + b)`` has the derivative ``M^2``, which is 0 only if M is 0. With
    ``M = lambda I`` the flow lines are straight and slow down (weak corridor).

    Args:
        matrix: M, symmetric, [n, n]. Default: the identity of any R^n.
        slope: b, [n]. Default: 0.
        offset: c. Default: 0.

    Raises:
        ValueError: M is not symmetric, or the sizes differ.

    Example:
        >>> import torch
        >>> float(Quadratic([[2.0, 0.0], [0.0, 4.0]])(torch.tensor([1.0, 1.0])))
        3.0
    """

    def __init__(
        self, matrix: object | None = None, slope: object | None = None, *, offset: float = 0.0
    ) -> None:
        self.matrix = None if matrix is None else _symmetric(matrix)
        self.slope = None if slope is None else vector(slope, "slope")
        self.offset = offset
        sizes = {len(part) for part in (self.matrix, self.slope) if part is not None}
        if len(sizes) > 1:
            raise ValueError(f"matrix and slope must have one size, got {sorted(sizes)}")
        self.dimension = sizes.pop() if sizes else None
        self.verdict, self.speed = self._verdict()
        self.f_star = self._infimum()
        self.expression = self._text()

    def value(self, x: Tensor) -> Tensor:
        """Return ``1/2 x^T M x + b^T x + c``."""
        moved = x if self.matrix is None else x @ self.matrix.to(x)
        linear = 0.0 if self.slope is None else x @ self.slope.to(x)
        return 0.5 * (x * moved).sum(-1) + linear + self.offset

    def _verdict(self) -> tuple[Verdict, float | None]:
        if self.matrix is None:
            return Verdict.WEAK, None
        if not self.matrix.any():
            return Verdict.CORRIDOR, 0.0 if self.slope is None else float(self.slope.norm())
        # Equal exactly: a nearly scalar matrix bends the flow lines, if slowly.
        scalar = torch.equal(self.matrix, self.matrix[0, 0] * torch.eye(len(self.matrix)).double())
        return (Verdict.WEAK if scalar else Verdict.NEITHER), None

    def _infimum(self) -> float:
        if self.matrix is None and self.slope is None:
            return self.offset
        matrix = torch.eye(self.dimension or 1).double() if self.matrix is None else self.matrix
        slope = torch.zeros(len(matrix)).double() if self.slope is None else self.slope
        values, vectors = torch.linalg.eigh(matrix)
        # Eigenvalues of 0 are found up to rounding.
        tiny = 1e-12 * max(float(values.abs().max()), 1e-300)
        along = vectors.T @ slope
        flat = values.abs() <= tiny
        if (values < -tiny).any() or (along[flat].abs() > 0.0).any():
            return -float("inf")
        return self.offset - 0.5 * float((along[~flat].square() / values[~flat]).sum())

    def _text(self) -> str | None:
        if self.dimension not in (None, 2) or self.slope is not None:
            return None
        (a, b), (_, c) = [[1.0, 0.0], [0.0, 1.0]] if self.matrix is None else self.matrix.tolist()
        return f"{0.5 * a!r}*x**2 + {b!r}*x*y + {0.5 * c!r}*y**2 + {float(self.offset)!r}"


def _symmetric(matrix: object) -> Tensor:
    out = torch.as_tensor(matrix, dtype=torch.float64)
    if out.dim() != 2 or out.shape[0] != out.shape[1] or not torch.allclose(out, out.T):
        raise ValueError(f"matrix must be square and symmetric, got shape {tuple(out.shape)}")
    return out

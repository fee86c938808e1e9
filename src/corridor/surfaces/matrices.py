"""Norms of matrices by singular values: nuclear and spectral (theory beyond the paper)."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface


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

    def __init__(self, rows: int = 3, columns: int = 2) -> None:
        if rows < 1 or columns < 1:
            raise ValueError(f"rows and columns must be at least 1, got {rows} x {columns}")
        self.rows, self.columns = rows, columns
        self.dimension = columns

    def checked(self, x: Tensor) -> Tensor:
        """Return the matrices themselves.

        Raises:
            ValueError: they have another shape.
        """
        x = super().checked(x)
        if x.shape[-2] != self.rows:
            name, shape = type(self).__name__, tuple(x.shape)
            raise ValueError(
                f"points of {name} must be {self.rows} x {self.columns} matrices, got shape {shape}"
            )
        return x

    def _point_shape(self, dimension: int | None) -> tuple[int, ...]:
        return (self.rows, self.columns)


class NuclearNorm(_Spectral):
    """Compute ``E = sum of singular values``: ``g = U V^T``, of norm ``sqrt(rank)``.

    Along the flow every singular value falls at speed 1, until the smallest is 0. Where two
    singular values are equal the loss is smooth, but torch's second derivatives are 0/0.

    Args:
        rows: m, at least 1. Default: 3.
        columns: k, at least 1. Default: 2.

    Example:
        >>> import torch
        >>> loss = NuclearNorm(2, 2)
        >>> round(float(loss(torch.diag(torch.tensor([3.0, 4.0])))), 5), round(loss.speed ** 2, 9)
        (7.0, 2.0)
    """

    def __init__(self, rows: int = 3, columns: int = 2) -> None:
        super().__init__(rows, columns)
        self.speed = min(rows, columns) ** 0.5
        self.domain = Domain(
            "matrices of full rank", lambda x: _singular_values(x)[..., -1].clone()
        )

    def value(self, x: Tensor) -> Tensor:
        """Return the sum of the singular values."""
        return _singular_values(x).sum(-1)


class SpectralNorm(_Spectral):
    """Compute ``E = largest singular value``: ``g = u v^T``, of norm 1.

    The loss is smooth where the largest singular value is simple.

    Args:
        rows: m, at least 1. Default: 3.
        columns: k, at least 1. Default: 2.
    """

    speed = 1.0

    def __init__(self, rows: int = 3, columns: int = 2) -> None:
        super().__init__(rows, columns)
        self.domain = Domain("matrices whose largest singular value is simple", self._margin)

    def value(self, x: Tensor) -> Tensor:
        """Return the largest singular value."""
        return _singular_values(x)[..., 0]

    def _margin(self, x: Tensor) -> Tensor:
        values = _singular_values(x)
        if values.shape[-1] == 1:
            return values[..., 0].clone()
        # A change of norm 1 can lower one value and raise the other by 1 / sqrt(2).
        return (values[..., 0] - values[..., 1]) / 2.0**0.5

"""Norms of matrices by singular values: nuclear and spectral (theory beyond the paper)."""

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

    Example:
        >>> loss = NuclearNorm(2, 2)
        >>> round(float(loss(torch.diag(torch.tensor([3.0, 4.0])))), 5), round(loss.speed ** 2, 9)
        (7.0, 2.0)
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

    The loss is smooth where the largest singular value is simple.

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

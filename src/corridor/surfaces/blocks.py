"""Sums of norms over orthogonal blocks: the group lasso's penalty (theory beyond the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corridor.surfaces.base import Domain, Surface, Verdict, norm
from corridor.surfaces.linear import variable_names


class BlockCone(Surface):
    """``E = sum_j c_j ||theta_j||`` over consecutive blocks: a corridor.

    Its speed is ``sqrt(sum_j c_j^2)``. The flow shortens every block at its own constant speed; the
    corridor ends where the first block reaches 0. Blocks of size one give the weighted 1-norm.

    Args:
        sizes: of the blocks, which fill the vector.
        weights: c_j, positive; 1 by default.

    Example:
        >>> import torch
        >>> loss = BlockCone([2, 2], [2.0, 3.0])
        >>> float(loss(torch.tensor([3.0, 4.0, 0.0, 1.0]))), round(loss.speed ** 2, 9)
        (13.0, 13.0)
    """

    verdict = Verdict.CORRIDOR

    def __init__(self, sizes: Sequence[int], weights: Sequence[float] | None = None) -> None:
        self.sizes = list(sizes)
        self.weights = [1.0] * len(self.sizes) if weights is None else list(weights)
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"sizes must be positive whole numbers, got {sizes}")
        if len(self.weights) != len(self.sizes) or min(self.weights) <= 0.0:
            raise ValueError(
                f"weights must be {len(self.sizes)} positive numbers, one a block, got {weights}"
            )
        self.dimension = sum(self.sizes)
        self.speed = sum(w * w for w in self.weights) ** 0.5
        self.domain = Domain("where no block is 0", lambda x: self._norms(x).amin(-1))
        self.expression = self._text()

    def _norms(self, x: Tensor) -> Tensor:
        return torch.stack([norm(block) for block in x.split(self.sizes, dim=-1)], dim=-1)

    def value(self, x: Tensor) -> Tensor:
        """``sum_j c_j ||x_j||``."""
        return self._norms(x) @ torch.tensor(self.weights, dtype=x.dtype, device=x.device)

    def _text(self) -> str:
        names = iter(variable_names(sum(self.sizes)))
        terms = []
        for size, weight in zip(self.sizes, self.weights, strict=True):
            squares = " + ".join(f"{next(names)}**2" for _ in range(size))
            terms.append(f"{weight!r}*sqrt({squares})")
        return " + ".join(terms)

"""Inner products of lists of tensors, of whole tensors where each rank holds a part."""

from __future__ import annotations

from torch import Tensor

from corridor import _reduce, _tree
from corridor._types import Tensors


def dot(xs: Tensors, ys: Tensors) -> Tensor:
    """``sum_i Re <x_i, y_i>``, 0-dim; a collective where tensors are sharded."""
    if not any(_reduce.is_sharded(x) for x in xs):
        return _tree.dot(xs, ys)
    parts = [_whole((x.double() * y.double()).sum()) for x, y in zip(xs, ys, strict=True)]
    return sum(parts[1:], parts[0]).to(_tree.accumulation_dtype(xs))


def squared_norm(tensors: Tensors) -> Tensor:
    """``sum_i ||t_i||^2``, 0-dim; a collective where tensors are sharded."""
    if not any(_reduce.is_sharded(t) for t in tensors):
        return _tree.squared_norm(tensors)
    return dot(tensors, tensors)


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if _reduce.is_sharded(value) else value  # pyright: ignore

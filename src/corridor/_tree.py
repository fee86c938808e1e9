"""Algebra on lists of tensors: squared norms and dot products that are right at any size.

A float32 running sum over tens of millions of terms loses digits (5e-3 relative on one tensor of
4e7 entries by a single reduction on the CPU), so long tensors are reduced by blocks first. Nothing
here reads a value back to the host.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from corridor import _reduce, _torch
from corridor._types import Tensors

SHORT = 1 << 14  # tensors up to this many entries are joined before they are reduced
NORM_BLOCK = 1 << 11
DOT_BLOCK = 1 << 17


def scalar_loss(value: Any) -> Tensor:
    """Return a loss as a 0-dim tensor with its graph. All folders check a loss here.

    Args:
        value: what a closure or a loss function returned.

    Raises:
        ValueError: it is not a tensor, or not one real number.

    Example:
        >>> scalar_loss(torch.tensor([2.0]))
        tensor(2.)
    """
    if not isinstance(value, Tensor):
        raise ValueError(
            f"loss must be a scalar tensor, got {type(value).__name__}; "
            "return the loss itself, before .item() or float()"
        )
    if value.numel() != 1 or value.is_complex():
        raise ValueError(
            f"loss must be one real number, got {value.dtype} of shape {tuple(value.shape)}; "
            "reduce it first, for example by .mean()"
        )
    return value.reshape(())


def accumulation_dtype(tensors: Tensors) -> torch.dtype:
    """float64 where any tensor is float64 or complex128, else float32."""
    wide = (torch.float64, torch.complex128)
    return torch.float64 if any(t.dtype in wide for t in tensors) else torch.float32


def as_real(tensor: Tensor) -> Tensor:
    """The tensor itself, or its real view [..., 2] where it is complex."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def flatten(tensor: Tensor) -> Tensor:
    """All entries as a vector in the order they lie in memory, without a copy where they are dense.

    Two tensors of equal shape and strides are flattened in the same order.
    """
    if tensor.is_contiguous():
        return tensor.view(-1)
    by_stride = sorted(range(tensor.dim()), key=lambda i: -tensor.stride(i))
    return tensor.permute(by_stride).reshape(-1)


def assign(targets: Tensors, values: Tensors) -> None:
    """Copy values into targets in place, pairwise."""
    _torch.foreach_copy_(list(targets), list(values))


def squared_norm(tensors: Tensors, dtype: torch.dtype | None = None) -> Tensor:
    """Squared Euclidean norm of a list of tensors on one device, ``sum_i ||t_i||^2``.

    Args:
        tensors: any shapes and floating or complex dtypes; at least one tensor.
        dtype: of the accumulation and the result; default `accumulation_dtype`.

    Returns:
        0-dim tensor on the tensors' device, right to 1e-6 relative in float32 at any size.

    Example:
        >>> squared_norm([torch.tensor([3.0, 4.0]), torch.tensor(2.0)])
        tensor(29.)
    """
    dtype = dtype or accumulation_dtype(tensors)
    if tensors[0].device.type != "cpu":  # a GPU reduces by trees of blocks already
        real = [as_real(t) for t in tensors]
        norms = _torch.foreach_norm(real, 2, dtype=dtype)
        return torch.stack(norms).square().sum()
    norms, small = [], []
    for tensor in tensors:
        if tensor.numel() <= SHORT:
            small.append(as_real(tensor).reshape(-1))
            continue
        x = flatten(as_real(tensor))
        rest = x.numel() % NORM_BLOCK
        if rest:
            x, tail = x.split((x.numel() - rest, rest))
            small.append(tail)
        norms.append(torch.linalg.vector_norm(x.view(-1, NORM_BLOCK), dim=1, dtype=dtype))
    if small:
        norms.append(_norms_of_joined(small, dtype))
    return torch.cat(norms).square().sum()


def norm(tensors: Tensors, dtype: torch.dtype | None = None) -> Tensor:
    """Euclidean norm of a list of tensors on one device, also where its square over- or underflows.

    Args:
        tensors: as for `squared_norm`; two passes and a copy of them are made.
        dtype: as for `squared_norm`.

    Returns:
        0-dim tensor, not finite where an entry is not.

    Example:
        >>> norm([torch.tensor([3e30, 4e30])]), norm([torch.zeros(2)])
        (tensor(5.0000e+30), tensor(0.))
    """
    dtype = dtype or accumulation_dtype(tensors)
    wide = [as_real(t).to(torch.promote_types(dtype, as_real(t).dtype)) for t in tensors]
    peaks = [t.abs().max() for t in wide if t.numel()]
    largest = torch.stack(peaks).max() if peaks else torch.zeros((), device=wide[0].device)
    unit = torch.where(largest > 0.0, largest, torch.ones_like(largest))
    return unit * squared_norm([t / unit for t in wide], dtype).sqrt()


def _norms_of_joined(vectors: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Norms, one a block, of many short vectors joined end to end."""
    joined = torch.cat(vectors)
    if joined.numel() > NORM_BLOCK:
        joined = torch.nn.functional.pad(joined, (0, -joined.numel() % NORM_BLOCK))
        return torch.linalg.vector_norm(joined.view(-1, NORM_BLOCK), dim=1, dtype=dtype)
    return torch.linalg.vector_norm(joined, dtype=dtype).view(1)


def dot(xs: Tensors, ys: Tensors, dtype: torch.dtype | None = None) -> Tensor:
    """Real inner product of two lists of tensors on one device, ``sum_i Re <x_i, y_i>``.

    Args:
        xs: any shapes and floating or complex dtypes; at least one tensor.
        ys: as many tensors of the same shapes and dtypes.
        dtype: of the accumulation and the result; default `accumulation_dtype`.

    Returns:
        0-dim tensor on the tensors' device.

    Example:
        >>> dot([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
        tensor(11.)
    """
    dtype = dtype or accumulation_dtype(xs)
    parts: list[Tensor] = []
    for x, y in zip(map(as_real, xs), map(as_real, ys), strict=True):
        alike = x.stride() == y.stride()
        x, y = (flatten(x), flatten(y)) if alike else (x.reshape(-1), y.reshape(-1))
        if not x.dtype == dtype == y.dtype:
            parts.append((x.to(dtype) * y.to(dtype)).sum())
        elif not x.is_cpu:
            parts.append(torch.dot(x, y))
        else:
            blocks = zip(x.split(DOT_BLOCK), y.split(DOT_BLOCK), strict=True)
            parts.extend(torch.dot(a, b) for a, b in blocks)
    return torch.stack(parts).sum()


def gram(
    xs: Tensors, ys: Tensors, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """``(||y||^2, <x, y>, ||x||^2)`` of two lists of real tensors, each read from memory once.

    Args:
        xs: any shapes, of the dtype accumulated in; at least one tensor.
        ys: as many tensors of the same shapes and layouts.
        dtype: of the accumulation and the result; default `accumulation_dtype`.

    Returns:
        Three 0-dim tensors on the tensors' device.

    Example:
        >>> gram([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
        (tensor(25.), tensor(11.), tensor(5.))
    """
    dtype = dtype or accumulation_dtype(xs)
    if xs[0].dtype != dtype or not xs[0].is_cpu:
        return squared_norm(ys, dtype), dot(xs, ys, dtype), squared_norm(xs, dtype)
    parts: list[Tensor] = []
    for x, y in zip(map(flatten, xs), map(flatten, ys), strict=True):
        for a, b in zip(x.split(DOT_BLOCK), y.split(DOT_BLOCK), strict=True):
            parts += [torch.dot(b, b), torch.dot(a, b), torch.dot(a, a)]
    yy, xy, xx = torch.stack(parts).view(-1, 3).sum(0).unbind()
    return yy, xy, xx


def whole_dot(xs: Tensors, ys: Tensors) -> Tensor:
    """Compute ``sum_i Re <x_i, y_i>`` of whole tensors, of which each rank may hold a part.

    Args:
        xs: tensors on one device; with sharded tensors among them this is a collective call.
        ys: tensors of the shapes and placements of `xs`.

    Returns:
        0-dim tensor, equal on all ranks.
    """
    if not any(_reduce.is_sharded(x) for x in xs):
        return dot(xs, ys)
    products = [(x.double() * y.double()).sum() for x, y in zip(xs, ys, strict=True)]
    parts = [_reduce.whole(product) for product in products]
    return sum(parts[1:], parts[0]).to(accumulation_dtype(xs))


def whole_squared_norm(tensors: Tensors) -> Tensor:
    """Compute ``sum_i ||t_i||^2`` of whole tensors, of which each rank may hold a part.

    Args:
        tensors: as the first argument of `whole_dot`.

    Returns:
        0-dim tensor, equal on all ranks.
    """
    if not any(_reduce.is_sharded(t) for t in tensors):
        return squared_norm(tensors)
    return whole_dot(tensors, tensors)

"""Algebra on lists of tensors: squared norms and dot products that are right at any size.

A float32 running sum over tens of millions of terms loses digits (5e-3 relative on one tensor of
4e7 entries by a single reduction on the CPU), so long tensors are reduced by blocks first. Nothing
here reads a value back to the host.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from corridor._types import Tensors

SHORT = 1 << 14  # tensors up to this many entries are joined before they are reduced
NORM_BLOCK = 1 << 11
DOT_BLOCK = 1 << 17


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
    torch._foreach_copy_(list(targets), list(values))  # pyright: ignore[reportPrivateImportUsage]


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
        norms = torch._foreach_norm(real, 2, dtype=dtype)  # pyright: ignore
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
    return torch.stack([_dot(x, y, dtype) for x, y in _blocks(xs, ys)]).sum()


def squared_norm_and_dot(
    xs: Tensors, ys: Tensors, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """``sum_i ||x_i||^2`` and ``sum_i Re <x_i, y_i>``, each block of x read from memory once.

    Args:
        xs: any shapes and floating or complex dtypes; at least one tensor.
        ys: as many tensors of the same shapes and dtypes.
        dtype: of the accumulation and the results; default `accumulation_dtype`.

    Returns:
        Two 0-dim tensors on the tensors' device.

    Example:
        >>> squared_norm_and_dot([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
        (tensor(5.), tensor(11.))
    """
    dtype = dtype or accumulation_dtype(xs)
    pairs = [(_dot(x, y, dtype), _dot(x, x, dtype)) for x, y in _blocks(xs, ys)]
    dots, norms = zip(*pairs, strict=True)
    return torch.stack(norms).sum(), torch.stack(dots).sum()


def _dot(x: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    if x.dtype == dtype == y.dtype:
        return torch.dot(x, y)
    return (x.to(dtype) * y.to(dtype)).sum()


def _blocks(xs: Tensors, ys: Tensors) -> Iterator[tuple[Tensor, Tensor]]:
    """Matching vectors; on the CPU short enough for `torch.dot` to be accurate."""
    for x, y in _packed(xs, ys):
        if x.device.type != "cpu" or x.numel() <= DOT_BLOCK:
            yield x, y
        else:
            yield from zip(x.split(DOT_BLOCK), y.split(DOT_BLOCK), strict=True)


def _packed(*trees: Tensors) -> list[tuple[Tensor, ...]]:
    """Matching real vectors: large tensors flattened, small ones joined end to end."""
    vectors: list[tuple[Tensor, ...]] = []
    small: list[list[Tensor]] = [[] for _ in trees]
    for leaves in zip(*trees, strict=True):
        if leaves[0].is_complex():
            leaves = tuple(map(torch.view_as_real, leaves))
        if leaves[0].numel() > SHORT:
            vectors.append(_flattened_alike(leaves))
            continue
        for bag, leaf in zip(small, leaves, strict=True):
            bag.append(leaf.reshape(-1))
    if small[0]:
        vectors.append(tuple(torch.cat(bag) for bag in small))
    return vectors


def _flattened_alike(leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Vectors in one order: that of memory where all share it, else that of the indices."""
    alike = all(leaf.stride() == leaves[0].stride() for leaf in leaves)
    return tuple(flatten(leaf) if alike else leaf.reshape(-1) for leaf in leaves)

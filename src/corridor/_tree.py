"""Compute norms and inner products of lists of tensors, which are right at any size.

A running sum in float32 over tens of millions of terms loses digits: one reduction of 4e7 entries
on the CPU had a relative error of 5e-3. Long tensors are therefore reduced block by block.
No function here reads a value back to the host.
"""

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from corridor import _reduce, _torch
from corridor._types import Tensors

# True inside a measurement of geometry. Its forward passes do not belong to the training.
MEASURING: ContextVar[bool] = ContextVar("measuring", default=False)

SHORT = 1 << 14  # tensors up to this many entries are joined before they are reduced
JOINED = 1 << 16  # entries that are joined, and so copied, at a time
NORM_BLOCK = 1 << 11
DOT_BLOCK = 1 << 17


def scalar_loss(value: Any) -> Tensor:
    """Return a loss as a 0-dim tensor with its graph, or raise ValueError."""
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
    """Return float64 if any tensor is float64 or complex128, otherwise float32."""
    wide = (torch.float64, torch.complex128)
    return torch.float64 if any(t.dtype in wide for t in tensors) else torch.float32


def as_real(tensor: Tensor) -> Tensor:
    """Return a real view [..., 2] of a complex tensor, and any other tensor unchanged.

    A lazy conjugate has no real view and is copied: autograd returns it as the gradient of
    ``w.conj()``. As a parameter it raises ValueError: writing to a copy does not change it.
    """
    if not tensor.is_complex():
        return tensor
    if tensor.is_conj() and tensor.is_leaf and tensor.requires_grad:
        raise ValueError(
            "params must own their numbers, got the lazy conjugate of another tensor; "
            "make the parameter from conj().resolve_conj()"
        )
    return torch.view_as_real(tensor.resolve_conj())


def flatten(tensor: Tensor) -> Tensor:
    """Return all entries as a vector, in memory order. A dense tensor is not copied.

    Two tensors with equal shapes and strides are flattened in the same order.
    """
    if tensor.is_contiguous():
        return tensor.view(-1)
    by_stride = sorted(range(tensor.dim()), key=lambda i: -tensor.stride(i))
    return tensor.permute(by_stride).reshape(-1)


def assign(targets: Tensors, values: Tensors) -> None:
    """Copy values into targets in place, pairwise."""
    _torch.foreach_copy_(list(targets), list(values))


def squared_norm(tensors: Tensors, dtype: torch.dtype | None = None) -> Tensor:
    """Compute ``sum_i ||t_i||^2`` of tensors on one device, real or complex.

    The sum is accumulated and returned in `dtype` (default: `accumulation_dtype`). In float32 its
    relative error is at most 1e-6. All sums below have this argument.
    """
    dtype = dtype or accumulation_dtype(tensors)
    if tensors[0].device.type != "cpu":  # a GPU reduces by trees of blocks already
        norms = _torch.foreach_norm([as_real(t) for t in tensors], 2, dtype=dtype)
        return torch.stack(norms).square().sum()
    norms, small, held = [], [], 0
    for tensor in tensors:
        if tensor.numel() <= SHORT:
            small.append(as_real(tensor).reshape(-1))
            held += small[-1].numel()
        else:
            x = flatten(as_real(tensor))
            rest = x.numel() % NORM_BLOCK
            if rest:
                x, tail = x.split((x.numel() - rest, rest))
                small.append(tail)
                held += rest
            norms.append(torch.linalg.vector_norm(x.view(-1, NORM_BLOCK), dim=1, dtype=dtype))
        if held >= JOINED:
            norms.append(_norms_of_joined(small, dtype))
            small, held = [], 0
    if small:
        norms.append(_norms_of_joined(small, dtype))
    return torch.cat(norms).square().sum()


def norm(tensors: Tensors, dtype: torch.dtype | None = None) -> Tensor:
    """Compute the norm of tensors on one device, even if its square leaves the range."""
    dtype = dtype or accumulation_dtype(tensors)
    wide = [as_real(t).to(torch.promote_types(dtype, as_real(t).dtype)) for t in tensors]
    peaks = [t.abs().max() for t in wide if t.numel()]
    largest = torch.stack(peaks).max() if peaks else torch.zeros((), device=wide[0].device)
    unit = torch.where(largest > 0.0, largest, torch.ones_like(largest))
    return unit * squared_norm([t / unit for t in wide], dtype).sqrt()


def _norms_of_joined(vectors: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Compute one norm per block of many short vectors, joined end to end."""
    joined = torch.cat(vectors)
    if joined.numel() > NORM_BLOCK:
        joined = torch.nn.functional.pad(joined, (0, -joined.numel() % NORM_BLOCK))
        return torch.linalg.vector_norm(joined.view(-1, NORM_BLOCK), dim=1, dtype=dtype)
    return torch.linalg.vector_norm(joined, dtype=dtype).view(1)


def dot(xs: Tensors, ys: Tensors, dtype: torch.dtype | None = None) -> Tensor:
    """Compute ``sum_i Re <x_i, y_i>`` of tensors on one device, real or complex."""
    dtype = dtype or accumulation_dtype(xs)
    parts: list[Tensor] = []
    for x, y in zip(map(as_real, xs), map(as_real, ys), strict=True):
        alike = x.stride() == y.stride()
        x, y = (flatten(x), flatten(y)) if alike else (x.reshape(-1), y.reshape(-1))
        if not x.is_cpu:
            parts.append(torch.dot(x.to(dtype), y.to(dtype)))
        else:
            blocks = zip(x.split(DOT_BLOCK), y.split(DOT_BLOCK), strict=True)
            parts.extend(torch.dot(a.to(dtype), b.to(dtype)) for a, b in blocks)
    return torch.stack(parts).sum()


def gram(
    xs: Tensors, ys: Tensors, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``(||y||^2, <x, y>, ||x||^2)`` of real tensors, reading each once.

    A tensor of `xs` and its partner in `ys` must have equal memory layouts.
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

    The sum is in float64 if the device has it, so that squares of float32 stay in its range.
    With a sharded tensor among them, all ranks must call. The result is equal on all ranks.
    """
    if not any(map(_reduce.is_sharded, xs)):
        return dot(xs, ys, widest(xs[0]))
    products = [(x.double() * y.double()).sum() for x, y in zip(xs, ys, strict=True)]
    parts = [_reduce.whole(product) for product in products]
    return sum(parts[1:], parts[0])


def whole_squared_norm(tensors: Tensors) -> Tensor:
    """Compute ``sum_i ||t_i||^2`` as `whole_dot` computes its sum."""
    sharded = any(map(_reduce.is_sharded, tensors))
    return whole_dot(tensors, tensors) if sharded else squared_norm(tensors, widest(tensors[0]))


def widest(like: Tensor) -> torch.dtype:
    """Return float64 if the device of a tensor has it."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def seeded(seed: int) -> torch.Generator:
    """Return a generator on the CPU, or raise ValueError for a seed that torch does not take."""
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must be from -2**63 to 2**64 - 1, got {seed}; give another number")
    return torch.Generator().manual_seed(seed)

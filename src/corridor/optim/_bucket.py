"""Sorting parameters into buckets: those of one group that share device, dtype and treatment.

Each bucket is measured and moved by a few calls on lists of tensors. A sharded parameter comes in
as this rank's part of it; complex tensors are viewed as real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from corridor import _reduce

PLAIN = {torch.nn.Parameter, Tensor}
FUSED_ON_CPU = {torch.float32, torch.float64, torch.complex64, torch.complex128}
FUSED_ON_CUDA = {torch.float32, torch.complex64, torch.float16, torch.bfloat16}


@dataclass
class Bucket:
    """Active parameters of one group on one device and of one dtype, complex ones viewed real.

    Attributes:
        group: index of the parameter group.
        fused: whether torch's fused kernels are right for these tensors.
        share: None for whole parameters; for shards, what `corridor._reduce.share` says of them.
        params: the parameters.
        grads: their gradients.
        buffers: what the optimizer keeps of each, by name.
        fresh: indices of those of which something is kept from now on.
    """

    group: int
    fused: bool
    share: float | None = None
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    buffers: dict[str, list[Tensor]] = field(default_factory=dict)
    fresh: list[int] = field(default_factory=list)

    def add(self, p: Tensor, grad: Tensor, buffers: dict[str, Tensor], fresh: bool) -> None:
        """Add a parameter with its gradient and buffers."""
        real = torch.view_as_real if p.is_complex() else lambda t: t
        if fresh:
            self.fresh.append(len(self.params))
        self.params.append(real(p))
        self.grads.append(real(grad))
        for name, buffer in buffers.items():
            self.buffers.setdefault(name, []).append(real(buffer))

    @property
    def rounds(self) -> bool:
        """Whether the parameters have 16 bits, so that rounding may swallow part of a step."""
        return self.params[0].dtype.itemsize == 2

    @property
    def device(self) -> torch.device:
        """Where all tensors of the bucket lie."""
        return self.params[0].device


def buckets(groups: list[dict[str, Any]], state: Any, names: Sequence[str]) -> list[Bucket]:
    """The parameters that have a gradient, sorted; buffers of the given names made where missing.

    Raises:
        ValueError: a gradient is sparse.
    """
    found: dict[tuple[Any, ...], Bucket] = {}
    for index, group in enumerate(groups):
        for p in group["params"]:
            if p.grad is None:
                continue
            grad, share = _dense(p), None
            fresh = any(name not in state[p] for name in names)
            kept = {name: _buffer(state[p], name, p) for name in names}
            if type(p) not in PLAIN and _reduce.is_sharded(p):
                share = _reduce.share(p)
                grad = _reduce.local(_reduce.placed_as(grad, p))
                kept = {name: _reduce.local(t) for name, t in kept.items()}
                p = _reduce.local(p)
            if p.numel():
                fused = not torch.compiler.is_compiling() and _fusable(p, grad, *kept.values())
                key = (index, p.device, p.dtype, fused, share)
                bucket = found.setdefault(key, Bucket(index, fused, share))
                bucket.add(p, grad, kept, fresh)
    return list(found.values())


def _dense(p: Tensor) -> Tensor:
    grad = p.grad
    assert grad is not None
    if grad.layout is not torch.strided:
        raise ValueError(
            f"expected dense gradients, got a {grad.layout} one for a parameter of shape "
            f"{tuple(p.shape)}; build the layer with sparse=False"
        )
    return grad


def _buffer(state: dict[str, Any], name: str, p: Tensor) -> Tensor:
    """What is kept of a parameter: zeros where missing, moved after the parameter."""
    buffer = state.get(name)
    if buffer is None:
        buffer = torch.zeros_like(p, memory_format=torch.preserve_format)
    elif buffer.dtype != p.dtype or buffer.device != p.device:
        buffer = buffer.to(device=p.device, dtype=p.dtype)
    state[name] = buffer
    return buffer


def _fusable(p: Tensor, *others: Tensor) -> bool:
    """Whether torch's fused kernels are right for a parameter, its gradient and its buffers.

    On the CPU they leave whole blocks of 16-bit parameters untouched (pytorch issue 191763); on a
    GPU they read the step size as float32, too coarse for float64. They address memory linearly,
    so layouts must agree and be dense, and they have no rule for subclasses.
    """
    tensors = (p, *others)
    if any(type(t) not in PLAIN or t.dtype is not p.dtype for t in tensors):
        return False
    if p.is_cpu:
        right = p.dtype in FUSED_ON_CPU
        if right and all(t.is_contiguous() for t in tensors):
            return True  # strides of dimensions of size 1 may differ
    else:
        right = p.is_cuda and p.dtype in FUSED_ON_CUDA
    return right and _is_dense(p) and all(t.stride() == p.stride() for t in others)


def _is_dense(p: Tensor) -> bool:
    return torch._debug_has_internal_overlap(p) == 0  # pyright: ignore[reportPrivateImportUsage]

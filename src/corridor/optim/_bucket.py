"""Sort parameters into buckets, and move the tensors of a bucket.

The parameters of a bucket share group, device, dtype and kernels. A few calls on lists of tensors
measure and move all of them. A sharded parameter is replaced by the part on this rank, and
a complex tensor by its real view. No function here reads a value back to the host.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from corridor import _reduce, _torch, _tree
from corridor._types import Tensors

PLAIN = {torch.nn.Parameter, Tensor}
FUSED_ON_CPU = {torch.float32, torch.float64, torch.complex64, torch.complex128}
FUSED_ON_CUDA = {torch.float32, torch.complex64, torch.float16, torch.bfloat16}
PORTION = 1 << 18  # entries

NORM = "norm_sq"  # ||g||^2, always the first sum
AVERAGE, SQUARES, WEIGHT = "gradient_average", "square_average", "average_weight"
# By the weight of an average, in the first group and of each parameter: buffer and power of g.
WEIGHTS: dict[str, tuple[str, int]] = {WEIGHT: (AVERAGE, 1), "square_weight": (SQUARES, 2)}


class Sums(NamedTuple):
    """Hold sums in named columns, with one row per group, or as a vector for one bucket."""

    names: tuple[str, ...]
    values: Tensor

    def of(self, name: str) -> Tensor:
        """Return a column. A length that was not measured is the gradient's own."""
        return self.values.select(-1, self.names.index(name) if name in self.names else 0)

    def total(self, name: str) -> Tensor:
        """Return the sum of a column over all groups, 0-dim."""
        return self.of(name).sum()


class Stride(NamedTuple):
    """Describe one step of a bucket, ``p = keep p - size direction``, by 0-dim tensors."""

    size: Tensor
    skip: Tensor  # True: nothing changes, even where gradients are not finite
    keep: Tensor | None  # None: no weight decay

    def moved(self, p: Tensor, direction: Tensor) -> Tensor:
        """Return the moved parameter, computed in float32 or wider and rounded once."""
        wide = wide_dtype(p.dtype, direction.dtype, self.size.dtype)
        old = p.to(wide)
        kept = old if self.keep is None else self.keep * old
        return torch.where(self.skip, p, (kept - self.size * direction.to(wide)).to(p.dtype))


@dataclass
class Bucket:
    """Hold the parameters of one group that have a gradient and share device, dtype and kernels."""

    group: int
    fused: bool  # torch's fused kernels are right for these tensors
    share: float | None = None  # from `corridor._reduce.share`; None: whole parameters
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    buffers: dict[str, list[Tensor]] = field(default_factory=dict)
    fresh: dict[str, list[int]] = field(default_factory=dict)  # of buffers made in this step
    weights: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, p: Tensor, grad: Tensor, buffers: dict[str, Tensor]) -> None:
        """Add a parameter with its gradient and buffers."""
        self.params.append(_tree.as_real(p))
        self.grads.append(_tree.as_real(grad))
        for name, buffer in buffers.items():
            self.buffers.setdefault(name, []).append(_tree.as_real(buffer))

    @property
    def rounds(self) -> bool:
        """True for 16-bit parameters, whose rounding can lose part of a step."""
        return self.params[0].dtype.itemsize == 2

    @property
    def device(self) -> torch.device:
        """Return the device of all tensors in the bucket."""
        return self.params[0].device

    def rows(self) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Yield each parameter with its gradient and its buffers by name."""
        for index, (p, g) in enumerate(zip(self.params, self.grads, strict=True)):
            yield p, g, {name: buffers[index] for name, buffers in self.buffers.items()}

    def portions(self) -> Iterator[slice]:
        """Yield runs of tensors of about `PORTION` entries, whose copies a step may hold."""
        start = held = 0
        for index, p in enumerate(self.params):
            held += p.numel()
            if held >= PORTION or index == len(self.params) - 1:
                yield slice(start, index + 1)
                start, held = index + 1, 0

    def decay(self, keep: Tensor | None) -> None:
        """Shrink the parameters by decoupled weight decay, ``p = keep p``."""
        if keep is not None:
            _torch.foreach_mul_(self.params, keep)

    def descend(self, stride: Stride) -> None:
        """Move the parameters along their gradients."""
        if self.fused:
            self.decay(stride.keep)
            fused_sgd(self.params, self.grads, stride)
            return
        for p, g in zip(self.params, self.grads, strict=True):
            _tree.assign([p], [stride.moved(p, g)])


def fused_sgd(
    params: Tensors, grads: Tensors, stride: Stride, averages: Tensors = (), beta: float = 0.0
) -> None:
    """Move along g, or with averages along ``d = beta d + (1 - beta) g``, without decay."""
    options = {"weight_decay": 0.0, "nesterov": False, "maximize": False, "is_first_step": False}
    options |= {"momentum": beta, "dampening": beta, "found_inf": stride.skip.to(torch.float32)}
    rate = stride.size if stride.size.is_cpu else stride.size.float()
    _torch.fused_sgd_(params, grads, list(averages), lr=rate, **options)


def wide_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """Return the dtype that holds all given dtypes, at least float32."""
    return functools.reduce(torch.promote_types, dtypes, torch.float32)


def _unscale(found: list[Bucket], grad_scale: Tensor) -> None:
    """Divide the gradients by a GradScaler's scale in place; raise ValueError for float16."""
    if any(bucket.grads[0].dtype == torch.float16 for bucket in found):
        raise ValueError(
            "gradients must be float32 under a GradScaler, got float16, too coarse to divide by "
            "the scale; keep the parameters in float32 and use autocast"
        )
    for bucket in found:
        _torch.foreach_mul_(bucket.grads, (1.0 / grad_scale).to(bucket.device))


def buckets(
    groups: list[dict[str, Any]], state: Any, names: Sequence[str], grad_scale: Tensor | None
) -> list[Bucket]:
    """Return the parameters with a gradient, unscaled, in buckets, with buffers in ``state``."""
    found: dict[tuple[Any, ...], Bucket] = {}
    for index, group in enumerate(groups):
        for p in group["params"]:
            if p.grad is None:
                continue
            if grad_scale is not None and (p.grad.is_conj() or p.grad.is_neg()):
                p.grad = p.grad.resolve_conj().resolve_neg()  # lazy ones cannot change in place
            grad, share = p.grad, None
            if grad.layout is not torch.strided:
                raise ValueError(
                    f"gradients must be dense, got {grad.layout} for a parameter of shape "
                    f"{tuple(p.shape)}; build the layer with sparse=False"
                )
            fresh = [name for name in names if name not in state[p]]
            weights = {key: state[p][key] for key in WEIGHTS if key in state[p]} if names else {}
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
                for name in fresh:
                    bucket.fresh.setdefault(name, []).append(len(bucket.params))
                bucket.weights.append(weights)
                bucket.add(p, grad, kept)
    if grad_scale is not None:
        _unscale(list(found.values()), grad_scale)
    return list(found.values())


def _buffer(state: dict[str, Any], name: str, p: Tensor) -> Tensor:
    """Return a buffer of a parameter, made where missing and moved to the parameter's device."""
    buffer = state.get(name)
    if buffer is None:
        buffer = torch.zeros_like(p, memory_format=torch.preserve_format)
    elif buffer.dtype != p.dtype or buffer.device != p.device:
        buffer = buffer.to(device=p.device, dtype=p.dtype)
    state[name] = buffer
    return buffer


def _fusable(p: Tensor, *others: Tensor) -> bool:
    """Return True if fused kernels are right for a parameter, its gradient and its buffers."""
    # On the CPU they leave whole blocks of 16-bit parameters untouched (pytorch issue 191763). On a
    # GPU they read the step size as float32, too coarse for float64. They address memory linearly,
    # so layouts must agree and be dense. They have no rule for subclasses.
    tensors = (p, *others)
    if any(type(t) not in PLAIN or t.dtype is not p.dtype for t in tensors):
        return False
    if p.is_cpu:
        right = p.dtype in FUSED_ON_CPU
        if right and all(t.is_contiguous() for t in tensors):
            return True  # strides of dimensions of size 1 may differ
    else:
        right = p.is_cuda and p.dtype in FUSED_ON_CUDA
    dense = _torch.has_internal_overlap(p) == 0
    return right and dense and all(t.stride() == p.stride() for t in others)

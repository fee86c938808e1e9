"""Moving the tensors: measure gradients and apply steps, bucket by bucket, without a host read.

A bucket holds the active parameters of one group that share device and dtype. Where torch's fused
SGD kernel is right it does the update in one pass (it takes the step size as a tensor and skips
the update by ``found_inf``); elsewhere plain tensor expressions say the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from corridor import _reduce, _tree

AVERAGE = "gradient_average"
PLAIN = {torch.nn.Parameter, Tensor}
FUSED_ON_CPU = {torch.float32, torch.float64, torch.complex64, torch.complex128}
FUSED_ON_CUDA = {torch.float32, torch.complex64, torch.float16, torch.bfloat16}


@dataclass
class Bucket:
    """Active parameters of one group on one device and of one dtype, complex ones viewed real."""

    group: int
    params: list[Tensor]
    grads: list[Tensor]
    averages: list[Tensor]
    fused: bool

    def make_real(self) -> None:
        """View complex tensors as real ones."""
        if self.params[0].is_complex():
            self.params = [torch.view_as_real(t) for t in self.params]
            self.grads = [torch.view_as_real(t) for t in self.grads]
            self.averages = [torch.view_as_real(t) for t in self.averages]

    @property
    def device(self) -> torch.device:
        """Where all tensors of the bucket lie."""
        return self.params[0].device


def buckets(groups: list[dict[str, Any]], state: Any, with_average: bool) -> list[Bucket]:
    """The parameters that have a gradient, sorted into buckets; averages are made where missing."""
    found: dict[tuple[int, torch.device, torch.dtype, bool], Bucket] = {}
    eager = not torch.compiler.is_compiling()
    for index, group in enumerate(groups):
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.layout is not torch.strided:
                raise ValueError(
                    f"expected dense gradients, got a {grad.layout} one for a parameter of shape "
                    f"{tuple(p.shape)}; build the layer with sparse=False"
                )
            if type(p) not in PLAIN and _reduce.is_sharded(p):
                raise ValueError(
                    "expected whole parameters, got a DTensor: the gradient's norm over shards "
                    "(FSDP2, tensor parallel) is not there yet; use DistributedDataParallel"
                )
            average = _average(state[p], p) if with_average else grad
            if not p.numel():
                continue
            key = (index, p.device, p.dtype, eager and _fusable(p, grad, average))
            bucket = found.get(key)
            if bucket is None:
                bucket = found[key] = Bucket(index, [], [], [], key[-1])
            bucket.params.append(p)
            bucket.grads.append(grad)
            if with_average:
                bucket.averages.append(average)
    for bucket in found.values():
        bucket.make_real()
    return list(found.values())


def _average(state: dict[str, Any], p: Tensor) -> Tensor:
    """The average of a parameter's gradients, made where missing, moved after the parameter."""
    average = state.get(AVERAGE)
    if average is None:
        average = torch.zeros_like(p, memory_format=torch.preserve_format)
    elif average.dtype != p.dtype or average.device != p.device:
        average = average.to(device=p.device, dtype=p.dtype)
    state[AVERAGE] = average
    return average


def _fusable(p: Tensor, grad: Tensor, average: Tensor) -> bool:
    """Whether torch's fused SGD kernel is right for these tensors.

    On the CPU it leaves whole blocks of 16-bit parameters untouched (pytorch issue 191763); on a
    GPU it reads the step size as float32, too coarse for float64. It addresses memory linearly,
    so layouts must agree and be dense, and it has no rule for subclasses such as DTensor.
    """
    if grad.dtype is not p.dtype or type(p) not in PLAIN or type(grad) not in PLAIN:
        return False
    if p.is_cpu:
        right = p.dtype in FUSED_ON_CPU
        if right and p.is_contiguous() and grad.is_contiguous() and average.is_contiguous():
            return True  # strides of dimensions of size 1 may differ
    else:
        right = p.is_cuda and p.dtype in FUSED_ON_CUDA
    return right and _dense(p) and p.stride() == grad.stride() == average.stride()


def _dense(p: Tensor) -> bool:
    return torch._debug_has_internal_overlap(p) == 0  # pyright: ignore[reportPrivateImportUsage]


def unscale(found: list[Bucket], grad_scale: Tensor) -> None:
    """Divide the gradients by a scaler's scale in place, as ``GradScaler.unscale_`` does."""
    for bucket in found:
        if bucket.grads[0].dtype == torch.float16:
            raise ValueError(
                "expected float32 gradients under a GradScaler, got float16, too coarse to divide "
                "by the scale; keep the parameters in float32 and use autocast"
            )
        factor = (1.0 / grad_scale).to(bucket.device)
        torch._foreach_mul_(bucket.grads, factor)  # pyright: ignore[reportPrivateImportUsage]


def average(bucket: Bucket, skip: Tensor, beta: float, dtype: torch.dtype) -> Tensor:
    """Bring the averages up to date, ``d = beta d + (1 - beta) g``; returns ``||d||^2``.

    Args:
        bucket: gradients g and averages d.
        skip: 0-dim bool; where true nothing changes, even if gradients are not finite.
        beta: weight of the past.
        dtype: of the result, 0-dim.
    """
    if bucket.fused:
        _fused_average(bucket.averages, bucket.grads, skip, beta)
        return _tree.squared_norm(bucket.averages, dtype)
    for d, grad in zip(bucket.averages, bucket.grads, strict=True):
        wide = torch.promote_types(torch.promote_types(d.dtype, grad.dtype), dtype)
        new = beta * d.to(wide) + (1.0 - beta) * grad.to(wide)
        _tree.assign([d], [torch.where(skip, d, new.to(d.dtype))])
    return _tree.squared_norm(bucket.averages, dtype)


def _fused_average(ds: list[Tensor], grads: list[Tensor], skip: Tensor, beta: float) -> None:
    """``d += (1 - beta) (g - d)``, written as a step of SGD with weight decay -1."""
    _fused(ds, grads, beta - 1.0, skip, weight_decay=-1.0)


def move(
    bucket: Bucket, directions: list[Tensor], step: Tensor, skip: Tensor, keep: Tensor | None
) -> Tensor | None:
    """Move the parameters, ``p = keep p - step d``.

    Args:
        bucket: parameters p.
        directions: d, one a parameter.
        step: 0-dim step size on the bucket's device.
        skip: 0-dim bool; where true nothing changes, even if directions are not finite.
        keep: 0-dim factor of weight decay, 1 on a skipped step; None for no decay.

    Returns:
        ``<d, change of p>`` as it came out, 0-dim, where it is cheap to know, else None.
    """
    if bucket.fused:
        if keep is not None:
            torch._foreach_mul_(bucket.params, keep)  # pyright: ignore[reportPrivateImportUsage]
        _fused(bucket.params, directions, step if step.is_cpu else step.float(), skip)
        return None
    seen = []
    for p, d in zip(bucket.params, directions, strict=True):
        # The arithmetic of 16-bit parameters is done in float32 and rounded once.
        wide = torch.promote_types(torch.promote_types(p.dtype, d.dtype), step.dtype)
        old = p.to(wide)
        new = (old if keep is None else keep * old) - step * d.to(wide)
        rounded = torch.where(skip, p, new.to(p.dtype))
        seen.append((d.to(wide) * (rounded.to(wide) - old)).sum())
        _tree.assign([p], [rounded])
    return torch.stack(seen).sum()


def expected_shift(bucket: Bucket, step: Tensor, norm_sq: Tensor, keep: Tensor | None) -> Tensor:
    """``<d, change of p>`` of a step to come; p is read only for weight decay."""
    shift = -step * norm_sq.to(step.device)
    if keep is None:
        return shift
    inner = _tree.dot(bucket.averages, bucket.params, norm_sq.dtype)
    return shift - (1.0 - keep) * inner


def _fused(
    params: list[Tensor],
    grads: list[Tensor],
    lr: Tensor | float,
    skip: Tensor,
    weight_decay: float = 0.0,
) -> None:
    torch._fused_sgd_(  # pyright: ignore[reportPrivateImportUsage]
        params,
        grads,
        [],
        weight_decay=weight_decay,
        momentum=0.0,
        lr=lr,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
        found_inf=skip.to(torch.float32),
    )

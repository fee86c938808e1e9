"""Measuring gradients and moving tensors, bucket by bucket, without a host read.

Where torch's fused SGD kernel is right it does the update in one pass (it takes the step size as a
tensor and skips the update by ``found_inf``); elsewhere plain tensor expressions say the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corridor import _tree
from corridor.optim._bucket import Bucket

VELOCITY = "velocity"


def unscale(found: list[Bucket], grad_scale: Tensor) -> None:
    """Divide the gradients by a scaler's scale in place, as ``GradScaler.unscale_`` does."""
    if any(bucket.grads[0].dtype == torch.float16 for bucket in found):
        raise ValueError(
            "expected float32 gradients under a GradScaler, got float16, too coarse to divide "
            "by the scale; keep the parameters in float32 and use autocast"
        )
    for bucket in found:
        factor = (1.0 / grad_scale).to(bucket.device)
        torch._foreach_mul_(bucket.grads, factor)  # pyright: ignore[reportPrivateImportUsage]


def wide_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """The dtype that holds all of the given ones, at least float32."""
    wide = torch.float32
    for dtype in dtypes:
        wide = torch.promote_types(wide, dtype)
    return wide


def move(bucket: Bucket, step: Tensor, skip: Tensor, keep: Tensor | None) -> None:
    """Move the parameters down their gradients, ``p = keep p - step g``.

    Args:
        bucket: parameters p and gradients g.
        step: 0-dim step size on the bucket's device.
        skip: 0-dim bool; where true nothing changes, even if gradients are not finite.
        keep: 0-dim factor of weight decay, 1 on a skipped step; None for no decay.
    """
    if bucket.fused:
        decay(bucket.params, keep)
        fused_sgd(bucket.params, bucket.grads, step, skip)
        return
    for p, g in zip(bucket.params, bucket.grads, strict=True):
        _tree.assign([p], [moved(p, g, step, skip, keep)])


def moved(p: Tensor, d: Tensor, step: Tensor, skip: Tensor, keep: Tensor | None) -> Tensor:
    """``keep p - step d``, computed in float32 or wider and rounded once; p where ``skip``."""
    wide = wide_dtype(p.dtype, d.dtype, step.dtype)
    old = p.to(wide)
    new = (old if keep is None else keep * old) - step * d.to(wide)
    return torch.where(skip, p, new.to(p.dtype))


def move_heavy_ball(
    bucket: Bucket, step: Tensor, skip: Tensor, keep: Tensor | None, beta: float
) -> None:
    """Heavy ball, ``v = beta v - (1 - beta) step g``, ``p = keep p + v``.

    Args:
        bucket: parameters p, gradients g, and `VELOCITY` v.
        step: as for `move`.
        skip: as for `move`; the velocity stays as it is, too.
        keep: as for `move`.
        beta: weight of the past.
    """
    velocities = bucket.buffers[VELOCITY]
    part = (1.0 - beta) * step
    if bucket.fused:
        fading = torch.where(skip, torch.ones_like(step), torch.full_like(step, beta))
        torch._foreach_mul_(velocities, fading)  # pyright: ignore[reportPrivateImportUsage]
        fused_sgd(velocities, bucket.grads, part, skip)
        decay(bucket.params, keep)
        fused_sgd(bucket.params, velocities, -torch.ones_like(step), skip)
        return
    for p, g, v in zip(bucket.params, bucket.grads, velocities, strict=True):
        wide = wide_dtype(p.dtype, g.dtype, step.dtype)
        faster = beta * v.to(wide) - part * g.to(wide)
        _tree.assign([v], [torch.where(skip, v, faster.to(v.dtype))])
        _tree.assign([p], [moved(p, v, -torch.ones_like(step), skip, keep)])


def decay(params: list[Tensor], keep: Tensor | None) -> None:
    """Decoupled weight decay, ``p = keep p``."""
    if keep is not None:
        torch._foreach_mul_(params, keep)  # pyright: ignore[reportPrivateImportUsage]


def fused_sgd(
    params: list[Tensor],
    grads: list[Tensor],
    step: Tensor,
    skip: Tensor,
    averages: list[Tensor] | None = None,
    beta: float = 0.0,
) -> None:
    """One pass of torch's fused SGD kernel, along ``d = beta d + (1 - beta) g`` where averages are.

    Nothing changes where ``skip`` is true, even if gradients are not finite.
    """
    torch._fused_sgd_(  # pyright: ignore[reportPrivateImportUsage]
        params,
        grads,
        averages or [],
        weight_decay=0.0,
        momentum=beta,
        lr=step if step.is_cpu else step.float(),
        dampening=beta,
        nesterov=False,
        maximize=False,
        is_first_step=False,
        found_inf=skip.to(torch.float32),
    )

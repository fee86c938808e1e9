"""The averaged gradient of the momentum model: its norm before it is formed, then one pass.

The step size needs ``||d||^2`` of the new average ``d' = beta d + (1 - beta) g``, and a gradient
that is not finite must leave d as it was, on all ranks alike. So the norm is measured first, from
inner products of d and g, and average and parameters change together in a second pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corridor import _tree
from corridor.optim import _update
from corridor.optim._bucket import Bucket

AVERAGE = "gradient_average"
CANCELLED = 1e3  # units of rounding


def measure(bucket: Bucket, beta: float, decayed: bool, dtype: torch.dtype) -> list[Tensor]:
    """``||g||^2``, ``||d'||^2`` and, where weight decay asks for it, ``<d', p>``, each 0-dim.

    Where d and g nearly cancel, rounding would be left of ``||d'||^2``; it is not taken to be less
    than what the inner products can tell, so that the step is too short rather than too long.
    """
    ds, gs, ps = bucket.buffers[AVERAGE], bucket.grads, bucket.params
    old, new = beta, 1.0 - beta
    if bucket.fused and not bucket.rounds:
        gg, dg, dd = _tree.gram(ds, gs, dtype)
        norm_sq = old * old * dd + 2.0 * old * new * dg + new * new * gg
        least = CANCELLED * torch.finfo(dtype).eps * (old * old * dd + new * new * gg)
        sums = [gg, torch.maximum(norm_sq, least)]
        if decayed:
            sums.append(old * _tree.dot(ds, ps, dtype) + new * _tree.dot(gs, ps, dtype))
        return sums
    # What rounding makes of the average in 16 bits is what will be stepped along.
    formed = [_formed(d, g, beta, dtype) for d, g in zip(ds, gs, strict=True)]
    sums = [_tree.squared_norm(gs, dtype), _tree.squared_norm(formed, dtype)]
    return [*sums, _tree.dot(formed, ps, dtype)] if decayed else sums


def move(
    bucket: Bucket, step: Tensor, skip: Tensor, keep: Tensor | None, beta: float
) -> Tensor | None:
    """Form the new average and move along it, ``p = keep p - step d'``.

    Args:
        bucket: parameters p, gradients g, and `AVERAGE` d.
        step: 0-dim step size on the bucket's device.
        skip: 0-dim bool; where true nothing changes, even if gradients are not finite.
        keep: 0-dim factor of weight decay, 1 on a skipped step; None for no decay.
        beta: weight of the past.

    Returns:
        ``<d', change of p>`` as it came out, 0-dim, where rounding to 16 bits may have swallowed
        part of it; else None, since it is known from the step.
    """
    ds = bucket.buffers[AVERAGE]
    # The kernel keeps no average where beta is 0, and does not say how far 16 bits have moved.
    if bucket.fused and beta > 0.0 and not bucket.rounds:
        _update.decay(bucket.params, keep)
        _update.fused_sgd(bucket.params, bucket.grads, step, skip, ds, beta)
        return None
    seen = []
    for p, g, d in zip(bucket.params, bucket.grads, ds, strict=True):
        _tree.assign([d], [torch.where(skip, d, _formed(d, g, beta, step.dtype))])
        new = _update.moved(p, d, step, skip, keep)
        seen.append((d.to(step.dtype) * (new.to(step.dtype) - p.to(step.dtype))).sum())
        _tree.assign([p], [new])
    return torch.stack(seen).sum() if bucket.share is None else None


def _formed(d: Tensor, g: Tensor, beta: float, dtype: torch.dtype) -> Tensor:
    wide = _update.wide_dtype(d.dtype, g.dtype, dtype)
    return (beta * d.to(wide) + (1.0 - beta) * g.to(wide)).to(d.dtype)

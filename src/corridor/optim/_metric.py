"""The averaged gradient in Adam's metric: steps along ``d / D``, ``D = sqrt(v / rho_2) + eps``.

As in `_average`, the norm of the new average in the new metric is measured before anything is
changed, and one pass then forms average and squares and moves the parameters.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from corridor import _tree
from corridor.optim import _update
from corridor.optim._average import AVERAGE
from corridor.optim._bucket import Bucket

SQUARES = "square_average"
BLOCK = 1 << 16


def begin(bucket: Bucket, square_weight: Tensor) -> None:
    """Give parameters that join late the squares they would have had with this gradient all along.

    The sum of the weights is one for all parameters; from squares of 0 it would make steps of up to
    ``(1 - beta1) / sqrt(1 - beta2)`` times the cap.

    Args:
        bucket: gradients g, squares v.
        square_weight: 0-dim, the sum of the weights in v so far; 0 at the first step.
    """
    weight = square_weight.to(bucket.device)
    for index in bucket.fresh:
        g, v = bucket.grads[index], bucket.buffers[SQUARES][index]
        squares = g.to(_update.wide_dtype(g.dtype)).square() * weight
        _tree.assign([v], [squares.nan_to_num(nan=0.0, posinf=0.0).to(v.dtype)])


def measure(
    bucket: Bucket,
    betas: tuple[float, float],
    eps: float,
    square_weight: Tensor,
    decayed: bool,
    dtype: torch.dtype,
    lengths: bool = False,
) -> list[Tensor]:
    """``||g||^2``, ``<d', d' / D'>`` and, where asked for, ``<d', p>`` and ``<g, g / D'>``, 0-dim.

    Args:
        bucket: gradients g, averages d, squares v.
        betas: weights of the past in d and v.
        eps: added to the root of v.
        square_weight: 0-dim, the sum rho_2 of the weights in the new v.
        decayed: whether ``<d', p>`` is wanted, for weight decay.
        dtype: of the sums.
        lengths: whether ``<g, g / D'>`` is wanted, the gradient's own length in the metric.
    """
    root = square_weight.to(bucket.device, dtype).sqrt()
    parts: list[Tensor] = []
    for p, g, d, v in _blocks(bucket):
        formed, squares = _formed(g, d, v, betas, dtype)
        # d / (sqrt(v / rho_2) + eps), up to the factor sqrt(rho_2) that all entries share
        divisor = squares.sqrt_().add_(eps * root)
        parts += [_dot(g, g, dtype), root * _dot(formed, formed / divisor, dtype)]
        if decayed:
            parts.append(_dot(formed, p, dtype))
        if lengths:
            parts.append(root * _dot(g, g / divisor, dtype))
    return list(torch.stack(parts).view(-1, 2 + decayed + lengths).sum(0).unbind())


def move(
    bucket: Bucket,
    step: Tensor,
    skip: Tensor,
    keep: Tensor | None,
    betas: tuple[float, float],
    eps: float,
    square_weight: Tensor,
    count: Tensor,
) -> None:
    """Form averages and squares and move, ``p = keep p - step d' / D'``.

    Args:
        bucket: parameters p, gradients g, averages d, squares v.
        step: 0-dim step size on the bucket's device, for the average as it is (not over rho).
        skip: 0-dim bool; where true nothing changes, even if gradients are not finite.
        keep: 0-dim factor of weight decay, 1 on a skipped step; None for no decay.
        betas: weights of the past in d and v.
        eps: added to the root of v.
        square_weight: 0-dim, the sum rho_2 of the weights in the new v.
        count: 0-dim float32, the averaged steps, this one included, as Adam's kernel counts them.
    """
    ds, vs = bucket.buffers[AVERAGE], bucket.buffers[SQUARES]
    if bucket.fused:
        _update.decay(bucket.params, keep)
        count = count.to(bucket.device)
        # The kernel divides by its own bias correction of d.
        rate = step * (1.0 - betas[0] ** count.to(step.dtype))
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            bucket.params,
            bucket.grads,
            ds,
            vs,
            [],
            [count.clone() for _ in ds],  # one counter each: a skipped step counts them back
            lr=rate if rate.is_cpu else rate.float(),
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=0.0,
            eps=eps,
            amsgrad=False,
            maximize=False,
            found_inf=skip.to(torch.float32),
        )
        return
    for p, g, d, v in zip(bucket.params, bucket.grads, ds, vs, strict=True):
        formed, squares = _formed(g, d, v, betas, step.dtype)
        along = formed / (squares / square_weight.to(p.device)).sqrt().add(eps)
        _tree.assign([p], [_update.moved(p, along, step, skip, keep)])
        _tree.assign([d], [torch.where(skip, d, formed.to(d.dtype))])
        _tree.assign([v], [torch.where(skip, v, squares.to(v.dtype))])


def inverse(
    g: Tensor, v: Tensor | None, beta2: float, eps: float, square_weight: Tensor, dtype: torch.dtype
) -> Tensor:
    """``1 / D'`` of one parameter, complex ones viewed real, with its gradient counted in.

    Args:
        g: gradient.
        v: squares so far; None for none, as of a parameter that is about to join.
        beta2: weight of the past in v.
        eps: added to the root of v.
        square_weight: 0-dim, the sum rho_2 of the weights in the new v.
        dtype: computed in.
    """
    g = _tree.as_real(g)
    if v is None:
        return g.to(_update.wide_dtype(g.dtype, dtype)).abs().add_(eps).reciprocal_()
    old = _tree.as_real(v)
    _, squares = _formed(g, old, old, (0.0, beta2), dtype)
    return (squares / square_weight.to(g.device)).sqrt_().add_(eps).reciprocal_()


def _blocks(bucket: Bucket) -> Iterator[tuple[Tensor, ...]]:
    """The bucket's tensors as vectors: small ones joined, on a CPU large ones cut to its cache."""
    lists = (bucket.params, bucket.grads, bucket.buffers[AVERAGE], bucket.buffers[SQUARES])
    joined: list[list[Tensor]] = []
    size = 0
    for tensors in zip(*lists, strict=True):
        alike = all(t.stride() == tensors[0].stride() for t in tensors)
        flat = [_tree.flatten(t) if alike else t.reshape(-1) for t in tensors]
        length = len(flat[0])
        if size + length > BLOCK and joined:
            yield tuple(map(torch.cat, zip(*joined, strict=True)))
            joined, size = [], 0
        if length < BLOCK:
            joined.append(flat)
            size += length
        elif flat[0].is_cpu:
            yield from zip(*(t.split(BLOCK) for t in flat), strict=True)
        else:
            yield tuple(flat)
    if joined:
        yield tuple(map(torch.cat, zip(*joined, strict=True)))


def _formed(
    g: Tensor, d: Tensor, v: Tensor, betas: tuple[float, float], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The new average and the new squares, at least float32."""
    wide = _update.wide_dtype(d.dtype, g.dtype, dtype)
    g, d, v = g.to(wide), d.to(wide), v.to(wide)
    return torch.lerp(d, g, 1.0 - betas[0]), (v * betas[1]).addcmul_(g, g, value=1.0 - betas[1])


def _dot(x: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.promote_types(y.dtype, torch.float32))
    return torch.dot(x.to(wide), y.to(wide)).to(dtype)

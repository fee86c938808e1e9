"""Estimate corridor numbers from losses and gradients of a run, without any Hessian."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from corridor._types import Tensors
from corridor.geometry._gradient import minus


def secant(gradient: Tensors, next_gradient: Tensors, step: float | Tensor) -> list[Tensor]:
    """Estimate Hg from two gradients of one loss, ``(g(theta) - g(theta - h g)) / h``.

    This is the mean of ``H g`` along the step, with its kinks. It is exact on quadratics, and
    differs by ``O(h)`` from the pointwise Hg on smooth losses. Both gradients must use one batch.

    Args:
        gradient: g at theta.
        next_gradient: g at ``theta - h g``.
        step: h.

    Example:
        >>> import torch
        >>> g = torch.tensor([2.0, 4.0])  # of x^2 + 2 y^2 at (1, 1): H g = (4, 16)
        >>> secant([g], [torch.tensor([1.5, 2.0])], 0.125)
        [tensor([ 4., 16.])]
    """
    return [difference / step for difference in minus(gradient, next_gradient)]


def rho_parallel_from_logs(
    losses: Sequence[float], grad_norms: Sequence[float], *, f_star: float = 0.0, window: int = 5
) -> list[float]:
    """Estimate ``rho_parallel = (1/4) d ln ||g||^2 / d ln E`` along a run from its logs.

    The formula is exact along gradient flow. Each entry is half the least-squares slope of
    ``ln ||g||`` against ``ln E`` over a window around it. With mini-batches the estimate includes
    their noise, so average the logs first.

    Args:
        losses: the loss at every step.
        grad_norms: ``||g||`` at every step.
        f_star: lower bound of the loss (default: 0.0).
        window: number of points per slope, at least 2 (default: 5). It is smaller at the ends.

    Returns:
        One number per loss, NaN if the window holds fewer than two different losses above `f_star`.

    Example:
        >>> losses = [1.0, 0.5, 0.25]  # of x^2 / 2, whose ||g||^2 is 2 E
        >>> found = rho_parallel_from_logs(losses, [(2 * e) ** 0.5 for e in losses], window=3)
        >>> [round(rho, 6) for rho in found]
        [0.25, 0.25, 0.25]
    """
    if len(losses) != len(grad_norms):
        raise ValueError(
            f"grad_norms must hold one entry per loss, got {len(grad_norms)} for {len(losses)} "
            "losses; give one loss and one norm per step"
        )
    if window < 2:
        raise ValueError(f"window must be at least 2, got {window}; give a larger number of steps")
    gaps = torch.tensor([float(loss) - f_star for loss in losses], dtype=torch.float64)
    norms = torch.tensor([float(norm) for norm in grad_norms], dtype=torch.float64)
    points = torch.stack([gaps, norms], 1).log()
    starts = [max(i - window // 2, 0) for i in range(len(points))]  # slices end early by themselves
    return [_half_slope(points[start : start + window]) for start in starts]


def _half_slope(points: Tensor) -> float:
    known = points[points.isfinite().all(1)]
    if len(known) < 2:
        return math.nan
    x, y = (known - known.mean(0)).T
    square = float(x @ x)
    return 0.5 * float(x @ y) / square if square > 0.0 else math.nan

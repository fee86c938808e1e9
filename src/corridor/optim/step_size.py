"""Compute step sizes from losses and gradient norms, by pure functions.

All functions take and return 0-dim tensors, and never branch on their values. So they run eagerly,
compiled, and on a GPU without waiting for it. ``0/0`` gives the step 0. A quantity that is not
finite must not become a step: `usable` returns which results may be used.

In all functions ``loss`` is the loss E, ``norm_sq`` is ``||g||^2`` of its gradient, ``gap`` is the
loss minus its lower bound, and ``scale`` is a factor on the step. The classes of `corridor.optim`
give the formulas and name the papers.
"""

import torch
from torch import Tensor


def usable(loss: Tensor, norm_sq: Tensor) -> Tensor:
    """Return True if both arguments are finite, as a 0-dim tensor."""
    return torch.isfinite(loss) & torch.isfinite(norm_sq)


def ratio(gap: Tensor, norm_sq: Tensor) -> Tensor:
    """Return ``gap_+ / norm_sq``, at most the largest finite number, and 0 for ``norm_sq`` of 0."""
    quotient = gap.clamp(min=0.0) / norm_sq
    quotient = quotient.clamp(max=torch.finfo(quotient.dtype).max)
    return torch.where(norm_sq > 0.0, quotient, torch.zeros_like(quotient))


def clr(
    loss: Tensor, norm_sq: Tensor, *, f_star: float | Tensor = 0.0, scale: float = 1.0
) -> Tensor:
    """Return the Corridor Learning Rate, the step at which a linear loss reaches ``f_star``.

    In a corridor ``E(theta - h g) = E(theta) - h ||g||^2``. Solved for ``f_star`` this gives
    ``h = scale * (loss - f_star)_+ / ||g||^2``, equation 3 of Dherin and Rosca (2024).

    Example:
        >>> clr(torch.tensor(2.0), torch.tensor(4.0))
        tensor(0.5000)
    """
    return ratio(scale * (loss - f_star), norm_sq)


def average(old: Tensor, new: Tensor, beta: float) -> Tensor:
    """Return ``beta * old + (1 - beta) * new``."""
    return beta * old + (1.0 - beta) * new


def momentum(
    loss_average: Tensor,
    linear_term: Tensor,
    weight: Tensor,
    norm_sq: Tensor,
    *,
    f_star: float | Tensor = 0.0,
    scale: float = 1.0,
) -> Tensor:
    """Return the step along an averaged gradient to where the averaged linear model meets f_star.

    ``scale * rho * [f_avg + c - rho f_star]_+ / ||d||^2``, a step along ``-d / rho``, with
    ``loss_average`` f_avg, ``linear_term`` c, ``weight`` rho and ``norm_sq`` ``||d||^2``. The page
    docs/mathematics.md derives it. Without a past the step is `clr`.
    """
    gap = loss_average + linear_term - weight * f_star
    return ratio(scale * weight * gap, norm_sq)


def lowered_bound(model: Tensor, weight: Tensor, bound: Tensor, least: float) -> Tensor:
    """Return the estimate ``bound`` of the minimum loss, lowered where the model has met it.

    ``model / weight`` is the value of the averaged linear model at the current point. A bound at
    this value or above it allows no step. It falls to the middle between the value and ``least``.
    """
    value, bound = model / weight, bound.clamp(min=least)
    rounding = 8.0 * torch.finfo(value.dtype).eps * (value.abs() + bound.abs())
    lower = (0.5 * (value + least)).clamp(min=least)
    return torch.where(value - bound <= rounding, lower, bound)


def estimated_bound(
    model: Tensor, weight: Tensor, norm_sq: Tensor, tau: Tensor, least: float
) -> Tensor:
    """Return the estimate after a step ``tau`` along d: ``(model - tau ||d||^2 / 2) / rho``."""
    return ((model - 0.5 * tau * norm_sq) / weight).clamp(min=least)

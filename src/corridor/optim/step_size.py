"""The mathematics of the step: pure functions from loss and gradient norms to step sizes.

Everything takes and returns 0-dim tensors and never branches on their values, so that the same
lines run eagerly, compiled, and on a GPU without waiting for it. ``0/0`` is no step, and a
quantity that is not finite never becomes a step: `usable` says which results may be used.
"""

from __future__ import annotations

import torch
from torch import Tensor


def usable(loss: Tensor, norm_sq: Tensor) -> Tensor:
    """Whether both are finite, as a 0-dim bool tensor."""
    return torch.isfinite(loss) & torch.isfinite(norm_sq)


def ratio(gap: Tensor, norm_sq: Tensor) -> Tensor:
    """``gap_+ / norm_sq``, finite wherever both are finite, and 0 where ``norm_sq`` is 0.

    A gradient so small that the quotient overflows gives the largest finite number.

    Example:
        >>> ratio(torch.tensor(-1.0), torch.tensor(4.0))
        tensor(0.)
        >>> ratio(torch.tensor(2.0), torch.tensor(0.0))
        tensor(0.)
    """
    quotient = gap.clamp(min=0.0) / norm_sq
    quotient = quotient.clamp(max=torch.finfo(quotient.dtype).max)
    return torch.where(norm_sq > 0.0, quotient, torch.zeros_like(quotient))


def clr(loss: Tensor, norm_sq: Tensor, f_star: float = 0.0, scale: float = 1.0) -> Tensor:
    """Corridor Learning Rate: the step at which a linearly falling loss reaches ``f_star``.

    Inside a corridor ``E(theta - h g) = E(theta) - h ||g||^2``; solving for ``f_star`` gives

        h = scale * (loss - f_star)_+ / ||g||^2

    Args:
        loss: 0-dim, the loss E at the point.
        norm_sq: 0-dim, ``||g||^2`` of its gradient there.
        f_star: the value aimed at, a lower bound of the loss.
        scale: factor on the step; 1/2 gives Hazan and Kakade's step.

    Returns:
        0-dim step size; 0 where the loss is below ``f_star`` or the gradient vanishes.

    Example:
        >>> clr(torch.tensor(2.0), torch.tensor(4.0))
        tensor(0.5000)

    Reference:
        Dherin and Rosca (2024), "Corridor Geometry in Gradient-Based Optimization", equation 3;
        Polyak (1987), "Introduction to Optimization".
    """
    return ratio(scale * (loss - f_star), norm_sq)


def average(old: Tensor, new: Tensor, beta: float) -> Tensor:
    """``beta * old + (1 - beta) * new``."""
    return beta * old + (1.0 - beta) * new


def momentum(
    loss_average: Tensor,
    linear_term: Tensor,
    weight: Tensor,
    norm_sq: Tensor,
    f_star: float = 0.0,
    scale: float = 1.0,
) -> Tensor:
    """Step size along an averaged gradient: the averaged linear model of the loss meets f_star.

    With weights ``w_j = (1 - beta) beta^(k - j)`` over the visited points x_j, the model
    ``sum_j w_j (f_j + <g_j, x - x_j>)`` falls along ``-d``, ``d = sum_j w_j g_j``, and reaches
    ``rho f_star``, ``rho = sum_j w_j``, after a step along ``-d / rho`` of

        h = scale * rho * [f_avg + c - rho f_star]_+ / ||d||^2,    c = <d, x> - sum_j w_j <g_j, x_j>

    In a corridor all linear models agree and one step reaches ``f_star``, whatever beta.

    Args:
        loss_average: 0-dim, ``f_avg = sum_j w_j f_j``.
        linear_term: 0-dim, ``c``. As the points move only by the steps themselves it obeys
            ``c_k = beta (c_{k-1} + <d_{k-1}, x_k - x_{k-1}>)`` and needs no pass over x.
        weight: 0-dim, ``rho``.
        norm_sq: 0-dim, ``||d||^2``.
        f_star: the value aimed at.
        scale: factor on the step.

    Returns:
        0-dim step size, to be used with ``d / rho``; with ``beta = 0`` it is `clr`.

    Reference:
        Schaipp, Ohana, Eickenberg, Defazio and Gower (2024), "MoMo: Momentum Models for Adaptive
        Learning Rates".
    """
    gap = loss_average + linear_term - weight * f_star
    return ratio(scale * weight * gap, norm_sq)

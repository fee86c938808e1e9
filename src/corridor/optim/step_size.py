"""Compute step sizes from losses and gradient norms, by pure functions.

All functions take and return 0-dim tensors, and never branch on their values. So they run eagerly,
compiled, and on a GPU without waiting for it. ``0/0`` gives the step 0. A quantity that is not
finite must not become a step: `usable` returns which results may be used.

In all functions ``loss`` is the loss E, ``norm_sq`` is ``||g||^2`` of its gradient, ``gap`` is the
loss minus its lower bound, ``scale`` is a factor on the step, and ``c`` is a divisor. The classes
of `corridor.optim` give the formulas and name the papers.
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


def half_polyak(
    loss: Tensor, norm_sq: Tensor, bound: Tensor, best: Tensor, age: Tensor, *, every: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return half of Polyak's step to a lower bound, and the new bound, best loss and age.

    After each round of ``every`` steps (None: never) the bound moves half of the way to the best
    loss of the round. ``best`` is inf at its start, and ``age`` is its number of steps so far.
    """
    step = clr(loss, norm_sq, scale=0.5, f_star=bound)
    best, age = torch.minimum(best, loss), age + 1.0
    if every is None:
        return step, bound, best, age
    over, start = age >= every, torch.zeros_like(age)
    bound = torch.where(over, 0.5 * (best + torch.minimum(bound, best)), bound)
    return step, bound, torch.where(over, torch.inf, best), torch.where(over, start, age)


def sps_max(
    gap: Tensor, norm_sq: Tensor, last: Tensor, *, c: float = 0.5, growth: float | None = None
) -> Tensor:
    """Return the stochastic Polyak step, at most ``growth`` times the last step."""
    step = ratio(gap / c, norm_sq)
    return step if growth is None else torch.minimum(step, growth * last)


def sps_safe(gap: Tensor, norm_sq: Tensor, *, floor: float = 1.0) -> Tensor:
    """Return the Polyak step with a floor under the norm, ``gap_+ / max(||g||^2, floor)``."""
    step = ratio(gap, norm_sq.clamp(min=floor))
    return torch.where(norm_sq > 0.0, step, torch.zeros_like(step))


def ngn(step: Tensor, sigma: Tensor | float) -> Tensor:
    """Return the non-negative Gauss-Newton step ``1 / (1/sigma + 1/step)``, from twice `clr`."""
    if not isinstance(sigma, Tensor) and sigma <= 0.0:  # a schedule has ended
        return torch.zeros_like(step)
    return 1.0 / (1.0 / step + 1.0 / sigma)


def dec_sps(
    gap: Tensor, norm_sq: Tensor, least: Tensor, count: Tensor, *, c: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the decreasing Polyak step, and the new least step and count.

    With no gap or no gradient the step is 0 and nothing is stored, since a stored 0 would end all
    progress. ``least`` is ``y / c`` before this step, at first the largest step allowed.
    """
    polyak = ratio(gap / c, norm_sq)
    gains = polyak > 0.0
    least = torch.where(gains, torch.minimum(least, polyak), least)
    step = least / torch.sqrt(count + 1.0)
    return torch.where(gains, step, torch.zeros_like(step)), least, count + gains.to(count.dtype)


def ada_sps(
    gap: Tensor, norm_sq: Tensor, last: Tensor, total: Tensor, unit: Tensor, *, c: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the adaptive Polyak step, and the new last step, total and unit.

    With no gap or no gradient the step is 0, and the last step (inf at first) is kept. ``total`` is
    the sum of the gaps before, and ``unit`` is the first positive gap, or 0 before there was one.
    """
    gap = gap.clamp(min=0.0)
    unit = torch.where(unit > 0.0, unit, gap)
    total = total + gap
    step = ratio(gap * torch.sqrt(unit / total.clamp(min=torch.finfo(gap.dtype).tiny)) / c, norm_sq)
    gains = step > 0.0
    last = torch.where(gains, torch.minimum(step, last), last)
    return torch.where(gains, last, torch.zeros_like(last)), last, total, unit


def coherence(average_sq: Tensor, gradient_sq: Tensor) -> Tensor:
    """Return the length of the averaged gradient over the gradients' root mean square, 0 to 1.

    For independent noise it is ``sqrt((1 - beta) / (1 + beta))``, 0.23 for beta = 0.9.
    """
    share = (average_sq / gradient_sq).clamp(max=1.0).sqrt()
    return torch.where(gradient_sq > 0.0, share, torch.ones_like(share))


def drift_limited(step: Tensor, ratio_hg: Tensor, tau: float | Tensor) -> Tensor:
    """Return the step under the limit of relative drift, ``min(step, 2 tau / ratio_hg)``.

    To leading order one step h g leaves gradient flow by ``(h^2 / 2) ||Hg||``. This is tau times
    the step's length at ``h = 2 tau ||g|| / ||Hg||``. In a corridor there is no limit.

    ``ratio_hg`` is ``||Hg|| / ||g||`` in the metric of the step; inf (not measured yet) gives 0. At
    tau = 1 a step along an eigenvector of H is at the edge of stability.
    """
    return torch.minimum(step, 2.0 * tau / ratio_hg)


def dal(ratio_hg: Tensor, *, power: float = 1.0) -> Tensor:
    """Return the drift-adjusted learning rate, ``2 / ratio_hg^power``, large where Hg = 0."""
    return (2.0 / ratio_hg**power).clamp(max=torch.finfo(ratio_hg.dtype).max)


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

    With weights ``w_j = (1 - beta) beta^(k - j)`` over the visited points x_j, the model
    ``sum_j w_j (f_j + <g_j, x - x_j>)`` falls along ``-d``, ``d = sum_j w_j g_j``. It reaches
    ``rho f_star``, ``rho = sum_j w_j``, after a step along ``-d / rho`` of

        h = scale * rho * [f_avg + c - rho f_star]_+ / ||d||^2,    c = <d, x> - sum_j w_j <g_j, x_j>

    In a corridor all linear models agree and one step reaches ``f_star``, for any beta. With
    ``beta = 0`` the step is `clr`.

    Here ``loss_average`` is ``f_avg = sum_j w_j f_j``, ``linear_term`` is c, ``weight`` is rho, and
    ``norm_sq`` is ``||d||^2``. Only the steps move the points, so c obeys
    ``c_k = beta (c_{k-1} + <d_{k-1}, x_k - x_{k-1}>)`` and needs no pass over x.
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

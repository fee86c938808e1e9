"""Appendices A and C as checks: momentum, Runge-Kutta, SGD over shuffled batches, quadratics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from corridor.flows import (
    gradient_flow,
    heavy_ball,
    mean_epoch,
    mean_loss,
    modified_flow,
    runge_kutta,
)
from corridor.flows.space import Loss, starting_at
from corridor.theory.check import Check


def momentum_velocity(n: int, step_size: float, momentum: float, aligned: float = 0.0) -> float:
    """Factor c of the heavy ball's velocity ``v_n = -c g`` in a corridor (equation 7).

    ``c = aligned beta^n + h (1 - beta^n) / (1 - beta)`` from a start with ``v_0 = -aligned g``.

    Example:
        >>> momentum_velocity(1, 0.1, 0.9), round(momentum_velocity(2, 0.1, 0.5), 12)
        (0.1, 0.15)
    """
    grown = momentum**n
    return aligned * grown + step_size * (1.0 - grown) / (1.0 - momentum)


def momentum_distance(n: int, step_size: float, momentum: float, aligned: float = 0.0) -> float:
    """Factor c of the heavy ball's place ``theta_n = theta_0 - c g`` in a corridor.

    ``c = h (n / (1 - beta) - beta (1 - beta^n) / (1 - beta)^2) + aligned beta (1 - beta^n) /
    (1 - beta)``, the sum of the velocities.

    Example:
        >>> round(momentum_distance(2, 0.1, 0.5), 12)
        0.25
    """
    rest, grown = 1.0 - momentum, momentum**n
    own = step_size * (n / rest - momentum * (1.0 - grown) / rest**2)
    return own + aligned * momentum * (1.0 - grown) / rest


def lemma_a_1(
    loss: Loss,
    start: Tensor,
    step_size: float,
    momentum: float,
    steps: int,
    aligned: float = 0.0,
) -> Check:
    """In a corridor the heavy ball follows the flow's lines, at the speed of the closed form.

    Args:
        loss: of a tensor; returns a scalar.
        start: in the corridor, which must hold all the way.
        step_size: h.
        momentum: beta.
        steps: n.
        aligned: c of a start with the velocity ``-c g``.
    """
    flat_loss = starting_at(loss, start)
    x, g = flat_loss.space.start, flat_loss.gradient(flat_loss.space.start)
    path = heavy_ball(loss, start, step_size, steps, momentum, velocity=aligned)
    rows = path.flat()
    factors = [momentum_distance(n, step_size, momentum, aligned) for n in range(len(rows))]
    places = torch.stack([x - c * g for c in factors])
    speeds = [momentum_velocity(n, step_size, momentum, aligned) for n in range(1, len(rows))]
    moves = torch.stack([-c * g for c in speeds])
    length = max(float((places[-1] - x).norm()), 1e-300)
    off = float((rows - places).norm(dim=1).max()) / length
    wrong = float((rows[1:] - rows[:-1] - moves).norm(dim=1).max()) / length
    return Check("lemma A.1, momentum's closed form", max(off, wrong), 1e-12)


def momentum_flow(
    loss: Loss, start: Tensor, step_size: float, momentum: float, steps: int
) -> Tensor:
    """The flow (12), ``theta' = -(1 - beta^n) / (1 - beta) g`` on the n-th interval of length h.

    A flow sped up by a factor is the flow for as much longer.

    Returns:
        The places at the times n h as rows, [steps + 1, numel].
    """
    rows = [start.reshape(-1)]
    for n in range(1, steps + 1):
        speed = (1.0 - momentum**n) / (1.0 - momentum)
        path = gradient_flow(loss, rows[-1].reshape(start.shape), speed * step_size)
        rows.append(path.flat()[-1])
    return torch.stack(rows)


def remark_a_3(loss: Loss, start: Tensor, step_size: float, momentum: float, steps: int) -> Check:
    """In a corridor the flow (12), sampled at n h, is the heavy ball from rest."""
    ball = heavy_ball(loss, start, step_size, steps, momentum).flat()
    flow = momentum_flow(loss, start, step_size, momentum, steps)
    length = max(float((ball[-1] - ball[0]).norm()), 1e-300)
    distance = float((ball - flow).norm(dim=1).max()) / length
    return Check("remark A.3, momentum's piecewise flow", distance, 1e-12)


def misaligned_displacement(
    loss: Loss, start: Tensor, velocity: Tensor, step_size: float, momentum: float, steps: int
) -> float:
    """How far a heavy ball that starts askew gets off the line of steepest descent (remark A.2)."""
    flat_loss = starting_at(loss, start)
    g = flat_loss.gradient(flat_loss.space.start)
    rows = heavy_ball(loss, start, step_size, steps, momentum, velocity).flat()
    away = rows - rows[0]
    across = away - torch.outer(away @ g, g) / g.square().sum()
    return float(across.norm(dim=1).max())


def appendix_a_2(
    loss: Loss, start: Tensor, step_size: float, steps: int = 1, method: str = "rk4"
) -> Check:
    """In a corridor every Runge-Kutta method with ``sum b = 1`` steps on the flow.

    All elementary differentials past the first vanish there, so that the order does not matter and
    implicit methods do it too; the paper shows it for RK4.
    """
    flat_loss = starting_at(loss, start)
    x, g = flat_loss.space.start, flat_loss.gradient(flat_loss.space.start)
    end = runge_kutta(loss, start, step_size, steps, method).flat()[-1]
    exact = x - step_size * steps * g
    scale = float(x.norm()) + float((exact - x).norm())
    return Check(
        f"appendix A.2, {method} steps on the flow", float((end - exact).norm()), 1e-14 * scale
    )


def appendix_a_3(
    losses: Sequence[Loss], start: Tensor, step_sizes: Sequence[float] = (4e-2, 2e-2, 1e-2, 5e-3)
) -> Check:
    """SGD's mean epoch over all orders follows the modified flow (20) to third order in h.

    Args:
        losses: of the m batches, at most 8.
        start: where the epoch begins.
        step_sizes: falling, each half of the one before.

    Returns:
        The deviation of the order of convergence at the smallest steps from 3; the orders with
        the modified and with the plain gradient flow in the detail.

    Reference:
        Smith, Dherin, Barrett and De (2021), "On the Origin of Implicit Regularization in
        Stochastic Gradient Descent".
    """
    m = len(losses)
    modified, plain = [], []
    for h in step_sizes:
        end = mean_epoch(losses, start, h)
        flow = modified_flow(losses, start, m * h, 1e-12, kind="sgd", step_size=h).flat()[-1]
        rest = gradient_flow(mean_loss(losses), start, m * h, 1e-12).flat()[-1]
        modified.append(float((end - flow).norm()))
        plain.append(float((end - rest).norm()))
    order = math.log2(modified[-2] / modified[-1])
    without = math.log2(plain[-2] / plain[-1])
    return Check(
        "appendix A.3, SGD's modified flow",
        abs(order - 3.0),
        0.2,
        {"order": order, "order without": without},
    )


def batch_gradient_identity(losses: Sequence[Loss], point: Tensor) -> Check:
    """``mean ||g_i||^2 = ||g||^2 + mean ||g_i - g||^2``: the two penalties of (20) in one."""
    rows = torch.stack([starting_at(one, point).gradient(point.reshape(-1)) for one in losses])
    g = rows.mean(0)
    left = rows.square().sum(1).mean()
    right = g.square().sum() + (rows - g).square().sum(1).mean()
    return Check("appendix A.3, the penalties' identity", float((left - right).abs() / left), 1e-14)


def kantorovich(condition: float) -> float:
    """Largest parallel corridor number of quadratics of a condition number k, ``(k+1)^2 / (16 k)``.

    It exceeds 1, so that a CLR step may raise the loss, from ``7 + 4 sqrt(3)`` on.

    Example:
        >>> kantorovich(1.0), round(kantorovich(7 + 4 * 3**0.5), 12)
        (0.25, 1.0)
    """
    if not condition >= 1.0:
        raise ValueError(f"condition must be at least 1, got {condition}")
    return (condition + 1.0) ** 2 / (16.0 * condition)


def appendix_c(matrix: Tensor, slope: Tensor, points: Tensor) -> Check:
    """A quadratic with ``M != 0`` has ``Hg = 0`` on a set of measure 0 only.

    On an open set ``Hg = M (M theta + b) = 0`` could be differentiated: ``M^2 = 0``, so ``M = 0``.

    Args:
        matrix: M, symmetric, [n, n].
        slope: b, [n].
        points: [k, n], drawn at random.

    Returns:
        The fraction of points with ``||Hg|| < 1e-12``.
    """
    Hg = (points @ matrix + slope) @ matrix
    fraction = float((Hg.norm(dim=1) < 1e-12).double().mean())
    return Check("appendix C, quadratics have no corridors", fraction, 0.0)

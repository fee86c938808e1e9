"""Gradient flow by steps scaled to the curvature, for losses with kinks everywhere (ReLU)."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor.flows._progress import Progress, reporter
from corridor.flows.methods import RK4
from corridor.flows.space import FlatLoss, Loss, Point, count, positive, starting_at
from corridor.flows.trajectory import Trajectory, assemble
from corridor.geometry.lanczos import top_curvature


def fixed_step_flow(
    loss: Loss,
    start: Point,
    time: float = 1.0,
    *,
    safety: float = 0.5,
    refresh: int = 10,
    krylov: int = 10,
    max_gradients: int = 100_000,
    progress: bool | Progress = False,
) -> Trajectory:
    """Gradient flow by RK4 with steps of ``safety / lambda_max``, and an estimate of its error.

    A network of ReLUs has kinks every few steps. An adaptive solver spends hundreds of gradients on
    resolving each, which an error of size ``h^2`` times the jump does not merit; here the step
    follows the curvature instead. The flow is run twice side by side, with the step and with its
    half, and the finer run is returned. Its ``error`` is thrice the distance between the two, where
    order four would divide it by 15: kinks void the order, and this covers orders down to 0.4.

    Args:
        loss: of a tensor shaped like start, or of a list of tensors; returns a scalar.
        start: a tensor, or a list of tensors.
        time: how long to flow.
        safety: step size times top curvature, at most 2.
        refresh: steps after which the curvature is measured again.
        krylov: Hessian products for that.
        max_gradients: the budget; a flow that spends it stops as "budget".
        progress: True for a line on stderr now and then, or a function of time, gradients, step.

    Returns:
        The finer path, with its cost and with the error estimate at every time.

    Raises:
        ValueError: the start is no place to begin, or a number is out of range.

    Example:
        >>> x = torch.ones(2, dtype=torch.float64)
        >>> path = fixed_step_flow(lambda x: 0.5 * x.square().sum(), x, 1.0)
        >>> gap = float((path.end - x / torch.e).norm())
        >>> gap < float(path.error[-1]) < 1e-3
        True
    """
    flat_loss = starting_at(loss, start)
    positive("time", time)
    if not 0.0 < safety <= 2.0:
        raise ValueError(f"safety must lie in (0, 2], got {safety}")
    count("refresh", refresh)
    report = reporter(progress, time)
    coarse = fine = flat_loss.space.start
    now, step, made = 0.0, 0.0, 0
    times, flats, errors, stopped = [0.0], [fine], [0.0], "time"
    while now < time * (1.0 - 1e-12):
        if made % refresh == 0:
            step = _longest(flat_loss, fine, safety, krylov, time)
        if flat_loss.gradients + 12 > max_gradients:
            stopped = "budget"
            break
        h = min(step, time - now)
        coarse = RK4.step(lambda y: -flat_loss.gradient(y), coarse, h)
        fine = _twice(flat_loss, fine, h)
        if not (torch.isfinite(fine).all() and torch.isfinite(coarse).all()):
            stopped = "not finite"
            break
        now, made = now + h, made + 1
        times.append(now)
        flats.append(fine)
        errors.append(3.0 * float((fine - coarse).norm()))
        report(now, flat_loss.gradients, h)
    return assemble(
        flat_loss.space,
        times,
        flats,
        [flat_loss.number(flat) for flat in flats],
        stopped=stopped,
        method="gradient flow by fixed steps",
        gradients=flat_loss.gradients,
        error=torch.tensor(errors, dtype=torch.float64),
    )


def _twice(flat_loss: FlatLoss, x: Tensor, h: float) -> Tensor:
    half = RK4.step(lambda y: -flat_loss.gradient(y), x, 0.5 * h)
    return RK4.step(lambda y: -flat_loss.gradient(y), half, 0.5 * h)


def _longest(flat_loss: FlatLoss, x: Tensor, safety: float, krylov: int, time: float) -> float:
    """The step of a given product with the top curvature; a tenth of the time if there is none."""
    g, product = flat_loss.product(x)
    top = top_curvature(product, g, krylov)
    return min(safety / top, 0.1 * time) if top > 0.0 else 0.1 * time

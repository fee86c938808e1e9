"""Follow the gradient flow of losses with kinks everywhere, such as ReLU networks."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from corridor.flows.methods import TABLES
from corridor.flows.space import Loss, Point, number, starting_at, whole_number
from corridor.flows.trajectory import Path, Progress, Trajectory
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
    progress: Progress | None = None,
) -> Trajectory:
    """Return the gradient flow, computed by RK4 with steps of ``safety / lambda_max``.

    A ReLU network has a kink every few steps. An adaptive solver spends hundreds of gradients on
    each, although it changes the path only by ``h^2`` times the jump of the gradient.

    The function also takes half the step, and returns the finer path. The estimate `error` is three
    times the distance between the two. It assumes an order of convergence of at least 0.42, because
    kinks reduce the order of RK4.

    Args:
        loss: function of a point that returns a scalar tensor.
        start: a tensor, or a list of tensors.
        time: duration of the flow, negative for the flow backwards (default: 1).
        safety: product of step size and largest curvature, in (0, 2] (default: 0.5).
        refresh: number of steps between two estimates of the curvature (default: 10).
        krylov: number of Hessian products per estimate of the curvature (default: 10).
        max_gradients: maximum number of gradients (default: 100,000). A flow that needs more stops
            with the reason "budget".
        progress: function of the time, the number of gradients and the step size, called after
            each step (default: none).

    Raises:
        ValueError: `start` is on a kink or outside the domain, or a number is out of range.

    Example:
        >>> x = torch.ones(2, dtype=torch.float64)
        >>> path = fixed_step_flow(lambda x: 0.5 * x.square().sum(), x, 1.0)
        >>> gap = float((path.end - x / torch.e).norm())
        >>> gap < float(path.error[-1]) < 1e-3
        True
    """
    flat_loss = starting_at(loss, start)
    time = number("time", time)
    sign, time = math.copysign(1.0, time), abs(time)
    if not 0.0 < safety <= 2.0:
        raise ValueError(f"safety must be in (0, 2], got {safety}; take 0.5 if unsure")
    whole_number("refresh", refresh)
    path, rk4 = Path(flat_loss, "gradient flow by fixed steps"), TABLES["rk4"].step

    def velocity(x: Tensor) -> Tensor:
        return -sign * flat_loss.gradient(x)

    coarse = fine = flat_loss.start
    now, step, errors, stopped = 0.0, 0.0, [0.0], "time"
    while now < time * (1.0 - 1e-12):
        if (len(errors) - 1) % refresh == 0:
            g, product = flat_loss.product(fine)
            top = top_curvature(product, g, krylov)
            step = min(safety / top, 0.1 * time) if top > 0.0 else 0.1 * time
        # Three steps of RK4 cost 12 gradients.
        if flat_loss.gradients + 12 > max_gradients:
            stopped = "budget"
            break
        h = min(step, time - now)
        coarse = rk4(velocity, coarse, h)
        fine = rk4(velocity, rk4(velocity, fine, 0.5 * h), 0.5 * h)
        if not (torch.isfinite(fine).all() and torch.isfinite(coarse).all()):
            stopped = "not finite"
            break
        now += h
        path.add(sign * now, fine)
        # An order of 0.42 divides the error by 4/3, and 1 / (4/3 - 1) is 3.
        errors.append(3.0 * float((fine - coarse).norm()))
        if progress:
            progress(sign * now, flat_loss.gradients, h)
    error = torch.tensor(errors, dtype=torch.float64)
    return replace(path.trajectory(stopped), error=error)

"""Follow methods with discrete steps: gradient descent, CLR, the heavy ball and Runge-Kutta."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from corridor.flows.methods import Table, table
from corridor.flows.space import (
    FlatLoss,
    Loss,
    Point,
    Space,
    momentum_factor,
    positive_number,
    starting_at,
    whole_number,
)
from corridor.flows.trajectory import Event, Path, Trajectory
from corridor.optim import step_size as rules

StepRule: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def walk(
    flat_loss: FlatLoss,
    method: str,
    step: Callable[[Tensor], tuple[Tensor, float]],
    steps: int,
) -> Trajectory:
    """Return the path of repeated steps, with an event for each step that crosses a kink.

    The function `step` returns the next flat vector and the time that the step takes.
    """
    path = Path(flat_loss, method)
    for _ in range(whole_number("steps", steps, 0)):
        before, now = path.flats[-1], path.times[-1]
        x, h = step(before)
        value = flat_loss.number(x)
        # A point outside the domain has no gradient, so the path cannot continue from it.
        if not (torch.isfinite(x).all() and math.isfinite(value)):
            return path.trajectory("not finite")
        part = first_kink(flat_loss, before, x)
        if part is not None:
            outside = (flat_loss.margin(x) or 0.0) < 0.0
            path.events.append(Event(now + part * h, "exit" if outside else "kink"))
        path.add(now + h, x, value)
    return path.trajectory("steps")


def first_kink(flat_loss: FlatLoss, x: Tensor, y: Tensor) -> float | None:
    """Return the fraction of the segment from x to y before its first kink, None without a kink.

    Both ends can be smooth points with a kink between them. The function therefore
    walks along the segment. Each stride is as long as the margin, and therefore free of kinks.
    """
    room = flat_loss.margin(x)
    length = float((y - x).norm())
    if room is None or length == 0.0:
        return None
    # The strides shrink towards a kink and would never reach it.
    close = 1e-9 * length
    walked = 0.0
    while walked < length:
        if room <= close:
            return walked / length
        walked += room
        room = flat_loss.margin(x + min(walked / length, 1.0) * (y - x)) or 0.0
    return 1.0 if room <= close else None


def gradient_descent(
    loss: Loss, start: Point, step_size: float | StepRule = 0.1, steps: int = 10
) -> Trajectory:
    """Return the path of gradient descent, ``theta <- theta - h g(theta)``, at the times n h.

    Args:
        loss: function of a point that returns a scalar tensor.
        start: a tensor, or a list of tensors.
        step_size: h, positive (default: 0.1). A function gets the loss and ``||g||^2`` as 0-dim
            tensors and returns h.
        steps: number of steps, 0 or more (default: 10).

    Returns:
        The path. For a loss with a domain, each kink between two iterates is an event.

    Raises:
        ValueError: `start` is on a kink or outside the domain, or a number is out of
            range.

    Example:
        >>> import torch
        >>> path = gradient_descent(torch.linalg.vector_norm, torch.tensor([3.0, 4.0]), 0.5, 4)
        >>> [round(loss, 5) for loss in path.losses.tolist()], path.stopped
        ([5.0, 4.5, 4.0, 3.5, 3.0], 'steps')
    """
    return _descend(loss, start, step_size, steps, "gradient descent")


def _descend(
    loss: Loss, start: Point, step_size: float | StepRule, steps: int, name: str
) -> Trajectory:
    flat_loss = starting_at(loss, start)
    if not callable(step_size):
        step_size = positive_number("step_size", step_size)

    def step(x: Tensor) -> tuple[Tensor, float]:
        value, g = flat_loss.slope(x)
        h = float(step_size(value, g.square().sum())) if callable(step_size) else step_size
        return x - h * g, h

    return walk(flat_loss, name, step, steps)


def clr_descent(
    loss: Loss,
    start: Point,
    steps: int = 10,
    *,
    f_star: float | None = None,
    max_lr: float = float("inf"),
    scale: float = 1.0,
) -> Trajectory:
    """Return the path of gradient descent with CLR, ``h = scale (E - f_star)_+ / ||g||^2``.

    The times are sums of step sizes. In a corridor every iterate therefore lies on the gradient
    flow at its time.

    Args:
        loss: function of a point that returns a scalar tensor.
        start: a tensor, or a list of tensors.
        steps: number of steps, 0 or more (default: 10).
        f_star: loss that a step aims at (default: the finite `f_star` of a surface, else 0).
        max_lr: maximum step size (default: inf).
        scale: factor on the step size before the maximum applies (default: 1).

    Example:
        >>> import torch
        >>> path = clr_descent(torch.linalg.vector_norm, torch.tensor([3.0, 4.0]), 1)
        >>> float(path.losses[-1]), float(path.times[-1])
        (0.0, 5.0)
    """
    known = float(getattr(loss, "f_star", 0.0))
    # A surface without a lower bound has f_star = -inf, which gives no step size.
    aim = f_star if f_star is not None else known if math.isfinite(known) else 0.0

    def rule(value: Tensor, norm_sq: Tensor) -> Tensor:
        return rules.clr(value, norm_sq, f_star=aim, scale=scale).clamp(max=max_lr)

    return _descend(loss, start, rule, steps, "CLR")


def heavy_ball(
    loss: Loss,
    start: Point,
    step_size: float = 0.1,
    steps: int = 10,
    *,
    momentum: float = 0.9,
    velocity: Point | float | None = None,
) -> Trajectory:
    """Return the path of the heavy ball, ``v <- beta v - h g``, ``theta <- theta + v``.

    Args:
        loss: function of a point that returns a scalar tensor.
        start: a tensor, or a list of tensors.
        step_size: h, positive (default: 0.1). The path has the times n h.
        steps: number of steps, 0 or more (default: 10).
        momentum: beta, in [0, 1) (default: 0.9).
        velocity: v at the start (default: 0). A number c means ``v = -c g``. Other values need the
            shapes of the start.

    Raises:
        ValueError: `start` is on a kink or outside the domain, or a number is out of
            range.

    Example:
        >>> import torch
        >>> path = heavy_ball(lambda x: x.sum(), torch.zeros(1), 1.0, 3, momentum=0.5)
        >>> path.points[:, 0].tolist()
        [0.0, -1.0, -2.5, -4.25]
    """
    flat_loss = starting_at(loss, start)
    h, beta = positive_number("step_size", step_size), momentum_factor(momentum)
    v = _initial_velocity(flat_loss, velocity)

    def step(x: Tensor) -> tuple[Tensor, float]:
        nonlocal v
        v = beta * v - h * flat_loss.gradient(x)
        return x + v, h

    return walk(flat_loss, "heavy ball", step, steps)


def _initial_velocity(flat_loss: FlatLoss, velocity: Point | float | None) -> Tensor:
    x = flat_loss.space.start
    if velocity is None:
        return torch.zeros_like(x)
    if isinstance(velocity, int | float):
        return -float(velocity) * flat_loss.gradient(x)
    given = Space(velocity)
    if given.shapes != flat_loss.space.shapes:
        wanted, got = ([tuple(s) for s in one.shapes] for one in (flat_loss.space, given))
        raise ValueError(f"velocity must have the start's shapes {wanted}, got {got}; reshape it")
    return given.start.to(x)


def runge_kutta(
    loss: Loss,
    start: Point,
    step_size: float = 0.1,
    steps: int = 10,
    *,
    method: str | Table = "rk4",
) -> Trajectory:
    """Return the gradient flow by a Runge-Kutta method with a constant step size.

    Args:
        loss: function of a point that returns a scalar tensor.
        start: a tensor, or a list of tensors.
        step_size: h, positive (default: 0.1).
        steps: number of steps, 0 or more (default: 10).
        method: a `Table`, or a key of `TABLES` (default: "rk4").

    Raises:
        ValueError: the method is unknown, `start` is on a kink or outside the domain, a number is
            out of range, or the step size is too large for an implicit method.

    Example:
        >>> import torch
        >>> x = torch.ones(1, dtype=torch.float64)
        >>> path = runge_kutta(lambda x: 0.5 * x.square().sum(), x, 0.1, 10)
        >>> bool((path.end - torch.exp(torch.tensor(-1.0))).abs() < 1e-6)
        True
    """
    rows = table(method)
    flat_loss = starting_at(loss, start)
    h = positive_number("step_size", step_size)

    def step(x: Tensor) -> tuple[Tensor, float]:
        return rows.step(lambda y: -flat_loss.gradient(y), x, h), h

    return walk(flat_loss, rows.name, step, steps)

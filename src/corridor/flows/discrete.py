"""Follow methods with discrete steps: descent, CLR, the heavy ball, Runge-Kutta and SGD."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from corridor import _tree
from corridor.flows import space
from corridor.flows.methods import TABLES, Table
from corridor.flows.space import FlatLoss, Loss, Point, starting_at, whole_number
from corridor.flows.trajectory import Event, Path, Trajectory
from corridor.optim import step_size as rules


def _walk(
    flat_loss: FlatLoss, method: str, step: Callable[[Tensor], tuple[Tensor, float]], steps: int
) -> Trajectory:
    """Return the path of steps, each of which returns the next flat vector and its own time."""
    path, x, now = Path(flat_loss, method), flat_loss.start, 0.0
    for _ in range(whole_number("steps", steps, 0)):
        before = x
        x, h = step(before)
        value = flat_loss.number(x)
        # A point outside the domain has no gradient, so the path cannot continue from it.
        if not (torch.isfinite(x).all() and math.isfinite(value)):
            return path.trajectory("not finite")
        part = first_kink(flat_loss, before, x)
        if part is not None:
            outside = (flat_loss.margin(x) or 0.0) < 0.0
            path.events.append(Event(now + part * h, "exit" if outside else "kink"))
        now += h
        path.add(now, x, value)
    return path.trajectory("steps")


def first_kink(flat_loss: FlatLoss, x: Tensor, y: Tensor) -> float | None:
    """Return the fraction of the segment from x to y before its first kink, None without a kink."""
    room, walked, length = flat_loss.margin(x), 0.0, float((y - x).norm())
    if room is None or length == 0.0:
        return None
    # A stride as long as an exact margin is free of kinks. An estimate needs short strides.
    longest = length if getattr(flat_loss.domain, "exact", True) else length / 16.0
    # The strides shrink towards a kink and would never reach it.
    while not room <= 1e-9 * length:
        if not walked < length:
            return None
        walked += min(room, longest)
        room = flat_loss.margin(x + min(walked / length, 1.0) * (y - x)) or 0.0
    return min(walked / length, 1.0)


def gradient_descent(
    loss: Loss,
    start: Point,
    step_size: float | Callable[[Tensor, Tensor], Tensor] = 0.1,
    steps: int = 10,
) -> Trajectory:
    """Return the path of gradient descent, ``theta <- theta - h g(theta)``, at the times n h.

    For a loss with a domain, each kink between two iterates is an event.

    Args:
        loss: function of a point that returns a scalar tensor.
        start: a tensor, or a list of tensors.
        step_size: h, positive, or a function of the 0-dim loss and ``||g||^2`` (default: 0.1).
        steps: number of steps, 0 or more (default: 10).

    Raises:
        ValueError: `start` is on a kink or outside the domain, or a number is out of range.

    Example:
        >>> import torch
        >>> path = gradient_descent(torch.linalg.vector_norm, torch.tensor([3.0, 4.0]), 0.5, 4)
        >>> [round(loss, 5) for loss in path.losses.tolist()], path.stopped
        ([5.0, 4.5, 4.0, 3.5, 3.0], 'steps')
    """
    flat_loss = starting_at(loss, start)
    if not callable(step_size):
        step_size = space.number("step_size", step_size, "positive")

    def step(x: Tensor) -> tuple[Tensor, float]:
        value, g = flat_loss.slope(x)
        h = float(step_size(value, g.square().sum())) if callable(step_size) else step_size
        return x - h * g, h

    return _walk(flat_loss, "gradient descent", step, steps)


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

    The times are sums of step sizes.

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
    if f_star is None:
        f_star = float(getattr(loss, "f_star", 0.0))
        # A surface without a lower bound has f_star = -inf, which gives no step size.
        f_star = f_star if math.isfinite(f_star) else 0.0

    def rule(value: Tensor, norm_sq: Tensor) -> Tensor:
        return rules.clr(value, norm_sq, f_star=f_star, scale=scale).clamp(max=max_lr)

    return replace(gradient_descent(loss, start, rule, steps), method="CLR")


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
        velocity: v at the start, with its shapes (default: 0). A number c means ``v = -c g``.
    """
    flat_loss = starting_at(loss, start)
    h, beta = space.number("step_size", step_size, "positive"), space.momentum_factor(momentum)
    x = flat_loss.start
    v = torch.zeros_like(x)
    if isinstance(velocity, int | float):
        v = -float(velocity) * flat_loss.gradient(x)
    elif velocity is not None:
        given = space.tensors_of(velocity, "velocity")
        want, got = [tuple(s) for s in flat_loss.shapes], [tuple(t.shape) for t in given]
        if got != want:
            raise ValueError(f"velocity must have the start's shapes {want}, got {got}; reshape it")
        v = space.flatten(given).to(x)

    def step(x: Tensor) -> tuple[Tensor, float]:
        nonlocal v
        v = beta * v - h * flat_loss.gradient(x)
        return x + v, h

    return _walk(flat_loss, "heavy ball", step, steps)


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
        ValueError: as for `gradient_descent`, or the step size is too large for an implicit method.
    """
    table = method if isinstance(method, Table) else TABLES.get(method)
    if table is None:
        raise ValueError(f"method must be one of {', '.join(TABLES)}, got {method!r}; change it")
    flat_loss = starting_at(loss, start)
    h = space.number("step_size", step_size, "positive")

    def velocity(x: Tensor) -> Tensor:
        return -flat_loss.gradient(x)

    return _walk(flat_loss, table.name, lambda x: (table.step(velocity, x, h), h), steps)


def mean_loss(losses: Sequence[Loss]) -> Loss:
    """Return the mean of several losses, functions of a point, as a loss."""
    return lambda point: torch.stack([loss(point).reshape(()) for loss in losses]).mean()


def stochastic_descent(
    losses: Sequence[Loss],
    start: Point,
    step_size: float = 0.1,
    *,
    order: Sequence[int] | None = None,
    epochs: int = 1,
) -> Trajectory:
    """Return the path of SGD: one gradient step per batch and epoch, at the times n h.

    Args:
        losses: losses of the batches. The losses of the trajectory are their mean.
        start: a tensor, or a list of tensors.
        step_size: h, positive (default: 0.1).
        order: order of the batches in every epoch (default: as given).
        epochs: number of passes over the batches (default: 1).
    """
    m = len(losses)
    order = list(range(m) if order is None else order)
    if not losses or sorted(order) != list(range(m)):
        need = f"order must be a permutation of {m} batches"
        raise ValueError(f"{need}, got {order}; name each batch once")
    flat_loss = starting_at(mean_loss(losses), start)
    h = space.number("step_size", step_size, "positive")
    batches = [FlatLoss(loss, start) for loss in losses]
    turns = itertools.cycle(order)

    def step(x: Tensor) -> tuple[Tensor, float]:
        g = batches[next(turns)].gradient(x)
        # The mean loss reports the cost, but only the batches compute gradients.
        flat_loss.gradients += 1
        return x - h * g, h

    return _walk(flat_loss, "stochastic gradient descent", step, whole_number("epochs", epochs) * m)


def mean_epoch(
    losses: Sequence[Loss],
    start: Point,
    step_size: float = 0.1,
    *,
    permutations: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Return the end of one epoch of SGD as a flat vector, averaged over orders of the batches.

    Args:
        losses: losses of the batches.
        start: a tensor, or a list of tensors.
        step_size: h, positive (default: 0.1).
        permutations: number of random orders (default: all orders, for at most 8 batches).
        seed: seed of the random orders (default: 0).
    """
    m = len(losses)
    if permutations is not None:
        generator, number = _tree.seeded(seed), whole_number("permutations", permutations)
        orders = [torch.randperm(m, generator=generator).tolist() for _ in range(number)]
    elif m <= 8:
        orders = list(itertools.permutations(range(m)))
    else:
        need = "permutations must be given for more than 8 batches"
        raise ValueError(f"{need}, got {m} batches; set a number of random orders")
    # One epoch in each order: the modified flow of SGD describes this mean, not a single path.
    ends = [stochastic_descent(losses, start, step_size, order=o).flat()[-1] for o in orders]
    return torch.stack(ends).mean(0)

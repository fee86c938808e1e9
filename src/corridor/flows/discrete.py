"""Paths of single steps: gradient descent, CLR, the heavy ball, Runge-Kutta, SGD over batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from corridor.flows.methods import Table, table
from corridor.flows.space import FlatLoss, Loss, Point, Space, count, positive, starting_at
from corridor.flows.trajectory import Event, Trajectory, assemble
from corridor.optim import step_size as rules

StepRule: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class _Path:
    """The points so far, and the kinks between them."""

    def __init__(self, flat_loss: FlatLoss, method: str) -> None:
        start = flat_loss.space.start
        self.flat_loss, self.method = flat_loss, method
        self.flats, self.times = [start], [0.0]
        self.losses = [flat_loss.number(start)]
        self.events: list[Event] = []
        self.stopped = "steps"

    def move(self, x: Tensor, h: float) -> bool:
        """Go on to x in the time h; False if x is no place to go on from."""
        loss = self.flat_loss.number(x)
        if not (torch.isfinite(x).all() and math.isfinite(loss)):
            self.stopped = "not finite"
            return False
        part = first_kink(self.flat_loss, self.flats[-1], x)
        if part is not None:
            room = self.flat_loss.margin(x)
            kind = "exit" if room is not None and room < 0.0 else "kink"
            self.events.append(Event(self.times[-1] + part * h, kind))
        self.flats.append(x)
        self.times.append(self.times[-1] + h)
        self.losses.append(loss)
        return True

    def trajectory(self) -> Trajectory:
        return assemble(
            self.flat_loss.space,
            self.times,
            self.flats,
            self.losses,
            stopped=self.stopped,
            method=self.method,
            gradients=self.flat_loss.gradients,
            events=tuple(self.events),
        )


def first_kink(flat_loss: FlatLoss, x: Tensor, y: Tensor) -> float | None:
    """The part of the segment from x to y that lies before its first kink, None if it has none.

    Both ends may be smooth points with a kink between them (subtlety S4), so that the segment is
    walked: from every point as far as its margin says that no kink is met.
    """
    room = flat_loss.margin(x)
    length = float((y - x).norm())
    if room is None or length == 0.0:
        return None
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
    """Gradient descent, ``theta <- theta - h g(theta)``, as a path at the times n h.

    Args:
        loss: of a tensor shaped like start, or of a list of tensors; returns a scalar.
        start: a tensor, or a list of tensors.
        step_size: h, or a rule from loss and ``||g||^2`` (0-dim tensors) to it.
        steps: how many.

    Returns:
        The path; a kink between two iterates is an event, if the loss knows its domain.

    Raises:
        ValueError: the start is no place to begin, or a number is out of range.

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
        positive("step_size", step_size)
    path = _Path(flat_loss, name)
    for _ in range(count("steps", steps, 0)):
        value, g = flat_loss.slope(path.flats[-1])
        h = float(step_size(value, g.square().sum())) if callable(step_size) else step_size
        if not path.move(path.flats[-1] - h * g, h):
            break
    return path.trajectory()


def clr_descent(
    loss: Loss,
    start: Point,
    steps: int = 10,
    *,
    f_star: float | None = None,
    max_lr: float = float("inf"),
    scale: float = 1.0,
) -> Trajectory:
    """Gradient descent with the Corridor Learning Rate, ``h = scale (E - f_star)_+ / ||g||^2``.

    The times are the sums of the step sizes, so that in a corridor every iterate lies on the
    gradient flow at its time.

    Args:
        loss: of the point, a scalar.
        start: a tensor, or a list of tensors.
        steps: how many.
        f_star: the loss aimed at; that of the surface, if it has one and it is finite, else 0.
        max_lr: the cap.
        scale: factor on the uncapped step.

    Example:
        >>> import torch
        >>> path = clr_descent(torch.linalg.vector_norm, torch.tensor([3.0, 4.0]), 1)
        >>> float(path.losses[-1]), float(path.times[-1])
        (0.0, 5.0)
    """
    if f_star is None:
        known = float(getattr(loss, "f_star", 0.0))
        f_star = known if math.isfinite(known) else 0.0
    aim = f_star

    def rule(value: Tensor, norm_sq: Tensor) -> Tensor:
        return rules.clr(value, norm_sq, aim, scale).clamp(max=max_lr)

    return _descend(loss, start, rule, steps, "CLR")


def heavy_ball(
    loss: Loss,
    start: Point,
    step_size: float = 0.1,
    steps: int = 10,
    momentum: float = 0.9,
    velocity: Point | float | None = None,
) -> Trajectory:
    """Heavy-ball momentum, ``v <- beta v - h g(theta)``, ``theta <- theta + v``, at the times n h.

    Args:
        loss: of the point, a scalar.
        start: a tensor, or a list of tensors.
        step_size: h.
        steps: how many.
        momentum: beta, in [0, 1).
        velocity: v at the start: 0 by default; a number c for one aligned with the gradient,
            ``v = -c g``; or anything of the start's shape.

    Raises:
        ValueError: the start is no place to begin, or a number is out of range.

    Example:
        >>> import torch
        >>> path = heavy_ball(lambda x: x.sum(), torch.zeros(1), 1.0, 3, momentum=0.5)
        >>> path.points[:, 0].tolist()
        [0.0, -1.0, -2.5, -4.25]
    """
    flat_loss = starting_at(loss, start)
    positive("step_size", step_size)
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
    path = _Path(flat_loss, "heavy ball")
    v = _velocity(flat_loss, velocity)
    for _ in range(count("steps", steps, 0)):
        v = momentum * v - step_size * flat_loss.gradient(path.flats[-1])
        if not path.move(path.flats[-1] + v, step_size):
            break
    return path.trajectory()


def _velocity(flat_loss: FlatLoss, velocity: Point | float | None) -> Tensor:
    x = flat_loss.space.start
    if velocity is None:
        return torch.zeros_like(x)
    if isinstance(velocity, int | float):
        return -float(velocity) * flat_loss.gradient(x)
    given = Space(velocity)
    if given.shapes != flat_loss.space.shapes:
        wanted, got = ([tuple(s) for s in one.shapes] for one in (flat_loss.space, given))
        raise ValueError(f"velocity must have the start's shapes {wanted}, got {got}")
    return given.start.to(x)


def runge_kutta(
    loss: Loss,
    start: Point,
    step_size: float = 0.1,
    steps: int = 10,
    method: str | Table = "rk4",
) -> Trajectory:
    """The gradient flow by a Runge-Kutta method with steps of one size.

    Args:
        loss: of the point, a scalar.
        start: a tensor, or a list of tensors.
        step_size: h.
        steps: how many.
        method: a name of `TABLES`, or a `Table`.

    Raises:
        ValueError: the method is unknown, or its implicit equation is not solved.

    Example:
        >>> import torch
        >>> x = torch.ones(1, dtype=torch.float64)
        >>> path = runge_kutta(lambda x: 0.5 * x.square().sum(), x, 0.1, 10)
        >>> bool((path.end - torch.exp(torch.tensor(-1.0))).abs() < 1e-6)
        True
    """
    rows = table(method)
    flat_loss = starting_at(loss, start)
    positive("step_size", step_size)
    path = _Path(flat_loss, rows.name)
    for _ in range(count("steps", steps, 0)):
        x = rows.step(lambda y: -flat_loss.gradient(y), path.flats[-1], step_size)
        if not path.move(x, step_size):
            break
    return path.trajectory()


def stochastic_descent(
    losses: Sequence[Loss],
    start: Point,
    step_size: float = 0.1,
    *,
    order: Sequence[int] | None = None,
    epochs: int = 1,
) -> Trajectory:
    """SGD over batches: a gradient step on each batch's loss in turn, at the times n h.

    Args:
        losses: the batches' losses; the trajectory's losses are their mean.
        start: a tensor, or a list of tensors.
        step_size: h.
        order: of the batches in every epoch; as given by default.
        epochs: passes over them.

    Raises:
        ValueError: there are no batches, or the order names others.
    """
    order = range(len(losses)) if order is None else order
    if not losses or sorted(order) != list(range(len(losses))):
        raise ValueError(f"order must be a permutation of {len(losses)} batches, got {list(order)}")
    flat_loss = starting_at(mean_loss(losses), start)
    positive("step_size", step_size)
    batches = [FlatLoss(one, flat_loss.space) for one in losses]
    path = _Path(flat_loss, "stochastic gradient descent")
    for index in itertools.chain.from_iterable(itertools.repeat(order, count("epochs", epochs))):
        x = path.flats[-1]
        if not path.move(x - step_size * batches[index].gradient(x), step_size):
            break
    flat_loss.gradients = sum(batch.gradients for batch in batches)
    return path.trajectory()


def mean_loss(losses: Sequence[Loss]) -> Loss:
    """The mean of several losses, itself a loss."""
    return lambda point: torch.stack([one(point).reshape(()) for one in losses]).mean()


def mean_epoch(
    losses: Sequence[Loss],
    start: Point,
    step_size: float = 0.1,
    *,
    permutations: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Where one epoch of SGD ends on average over the orders of the batches.

    Args:
        losses: the batches' losses.
        start: a tensor, or a list of tensors.
        step_size: h.
        permutations: how many random orders; all of them by default, of at most 8 batches.
        seed: of the random orders.

    Returns:
        The mean end point as a flat vector.

    Raises:
        ValueError: all orders are asked for of more than 8 batches.
    """
    m = len(losses)
    if permutations is None and m > 8:
        raise ValueError(f"all orders of {m} batches are too many; say how many permutations")
    if permutations is None:
        orders = list(itertools.permutations(range(m)))
    else:
        generator = torch.Generator().manual_seed(seed)
        number = count("permutations", permutations)
        orders = [torch.randperm(m, generator=generator).tolist() for _ in range(number)]
    ends = [stochastic_descent(losses, start, step_size, order=o).flat()[-1] for o in orders]
    return torch.stack(ends).mean(0)

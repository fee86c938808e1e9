"""Follow stochastic gradient descent over batches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from corridor import _tree
from corridor.flows.discrete import walk
from corridor.flows.space import FlatLoss, Loss, Point, positive_number, starting_at, whole_number
from corridor.flows.trajectory import Trajectory


def mean_loss(losses: Sequence[Loss]) -> Loss:
    """Return the mean of several losses as a loss.

    Args:
        losses: functions of a point that return scalar tensors.
    """
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

    Raises:
        ValueError: `losses` is empty, `order` is not a permutation of the batches, or `start` is on
            a kink or outside the domain.
    """
    order = range(len(losses)) if order is None else order
    if not losses or sorted(order) != list(range(len(losses))):
        raise ValueError(
            f"order must be a permutation of {len(losses)} batches, got {list(order)}; "
            "name each batch once"
        )
    flat_loss = starting_at(mean_loss(losses), start)
    h = positive_number("step_size", step_size)
    batches = [FlatLoss(loss, flat_loss.space) for loss in losses]
    turns = itertools.cycle(order)

    def step(x: Tensor) -> tuple[Tensor, float]:
        g = batches[next(turns)].gradient(x)
        # The mean loss reports the cost, but only the batches compute gradients.
        flat_loss.gradients += 1
        return x - h * g, h

    steps = whole_number("epochs", epochs) * len(losses)
    return walk(flat_loss, "stochastic gradient descent", step, steps)


def mean_epoch(
    losses: Sequence[Loss],
    start: Point,
    step_size: float = 0.1,
    *,
    permutations: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Return the end of one epoch of SGD, averaged over the orders of the batches.

    Args:
        losses: losses of the batches.
        start: a tensor, or a list of tensors.
        step_size: h, positive (default: 0.1).
        permutations: number of random orders (default: all orders, for at most 8 batches).
        seed: seed of the random orders (default: 0).

    Returns:
        The mean end point as a flat vector.

    Raises:
        ValueError: `permutations` is missing for more than 8 batches.
    """
    m = len(losses)
    if permutations is None and m > 8:
        raise ValueError(
            f"permutations must be given for more than 8 batches, got {m} batches; "
            "set a number of random orders"
        )
    if permutations is None:
        orders = list(itertools.permutations(range(m)))
    else:
        generator = _tree.seeded(seed)
        number = whole_number("permutations", permutations)
        orders = [torch.randperm(m, generator=generator).tolist() for _ in range(number)]
    # One epoch in each order: the modified flow of SGD describes this mean, not a single path.
    ends = [stochastic_descent(losses, start, step_size, order=o).flat()[-1] for o in orders]
    return torch.stack(ends).mean(0)

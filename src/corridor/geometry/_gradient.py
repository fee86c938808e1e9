"""Evaluate a loss and its gradient, at a point or at a distance from it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from corridor import _reduce
from corridor._types import LossClosure, Tensors
from corridor.geometry._guard import Untouched
from corridor.geometry._nodes import holds


def filled(values: Sequence[Tensor | None], params: Tensors) -> list[Tensor]:
    """Return one dense tensor per parameter, with zeros where there is no value."""
    return [_dense(value, p) for value, p in zip(values, params, strict=True)]


def _dense(value: Tensor | None, like: Tensor) -> Tensor:
    if value is None:
        return torch.zeros_like(like, requires_grad=False)
    value = value.detach()
    return value.to_dense() if value.is_sparse else value  # from nn.Embedding(sparse=True)


def evaluate(guard: Untouched, closure: LossClosure) -> tuple[Tensor, list[Tensor]]:
    """Return the loss and its gradient, both detached and averaged over ranks if needed.

    Raises:
        ValueError: the loss uses none of the parameters.
    """
    value = guard.evaluate(closure)
    # The graph holds gathered copies of sharded parameters, so autograd.grad cannot reach them.
    sharded = any(map(_reduce.is_sharded, guard.params))
    with guard.layers():
        if sharded:
            found = guard.backward(value)
        else:
            found = torch.autograd.grad(value, guard.params, allow_unused=True)
    check_used(found, value)
    loss, gradient = value.detach().clone(), filled(found, guard.params)
    if sharded:
        average([loss])  # backward averages gradients of sharded parameters
    elif guard.across_ranks:
        average([loss, *gradient])
    return loss, gradient


def minus(xs: Tensors, ys: Tensors) -> list[Tensor]:
    """Return ``xs - ys``, pair by pair."""
    return [x - y for x, y in zip(xs, ys, strict=True)]


def average(tensors: Tensors) -> None:
    """Replace tensors in place by their means over the ranks of the default process group."""
    count = _reduce.sum_over_ranks(tensors)
    for tensor in tensors if count > 1 else ():
        tensor.div_(count)


def check_used(found: Sequence[Tensor | None], loss: Tensor) -> None:
    """Raise ValueError if no parameter has a gradient, or if a checkpoint hides parameters."""
    if all(g is not None for g in found):
        return
    if holds(loss, "CheckpointFunctionBackward"):
        raise ValueError(
            "the loss passes a reentrant checkpoint, which hides its parameters; "
            "call torch.utils.checkpoint.checkpoint with use_reentrant=False"
        )
    if all(g is None for g in found):
        raise ValueError(
            f"params must be used by the loss, got a loss that uses none of the {len(found)}; "
            "give the parameters of the model in the closure"
        )

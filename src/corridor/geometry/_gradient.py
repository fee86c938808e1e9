"""Evaluate a loss and its gradient, at a point or at a distance from it."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from corridor import _reduce
from corridor._types import LossClosure, Tensors
from corridor.geometry._guard import Untouched
from corridor.geometry._nodes import nodes


def filled(values: Sequence[Tensor | None], params: Tensors) -> list[Tensor]:
    """Return one detached, dense tensor per parameter, with zeros where there is no value."""
    pairs = zip(values, params, strict=True)
    found = [torch.zeros_like(p) if value is None else value.detach() for value, p in pairs]
    return [t.to_dense() if t.is_sparse else t for t in found]  # from nn.Embedding(sparse=True)


def evaluate(guard: Untouched, closure: LossClosure) -> tuple[Tensor, list[Tensor]]:
    """Return the loss and its gradient, both detached and averaged over ranks if needed."""
    value = guard.evaluate(closure)
    # The graph holds gathered copies of sharded parameters, so autograd.grad cannot reach them.
    sharded = any(map(_reduce.is_sharded, guard.params))
    backward = guard.backward if sharded else partial(torch.autograd.grad, allow_unused=True)
    with guard.layers():
        found = backward(value, guard.params)
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
    if any(node.name().startswith("CheckpointFunctionBackward") for node in nodes(loss)):
        raise ValueError(
            "the loss passes a reentrant checkpoint, which hides its parameters; "
            "call torch.utils.checkpoint.checkpoint with use_reentrant=False"
        )
    if all(g is None for g in found):
        raise ValueError(
            f"params must be used by the loss, got a loss that uses none of the {len(found)}; "
            "give the parameters of the model in the closure"
        )

"""A gradient and nothing else, at the point or away from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corridor import _reduce
from corridor._types import Tensors
from corridor.geometry._guard import Closure, Untouched


def filled(values: Sequence[Tensor | None], params: Tensors) -> list[Tensor]:
    """Values of the parameters that require gradients as dense tensors; zeros for all others.

    Args:
        values: one a parameter that requires a gradient, in order; None counts as zeros.
        params: all parameters.
    """
    rest = iter(values)
    return [_dense(next(rest) if p.requires_grad else None, p) for p in params]


def _dense(value: Tensor | None, like: Tensor) -> Tensor:
    if value is None:
        return torch.zeros_like(like, requires_grad=False)
    value = value.detach()
    return value.to_dense() if value.is_sparse else value


def evaluate(guard: Untouched, closure: Closure) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradient, detached; the gradient by ``backward`` where autograd.grad cannot go.

    Raises:
        ValueError: the loss uses none of the parameters.
    """
    value = guard.evaluate(closure)
    loss = value.detach()
    live = [p for p in guard.params if p.requires_grad]
    if any(_reduce.is_sharded(p) for p in live):  # the graph holds gathered copies of them
        found = guard.backward(value)
        loss = loss.clone()
        average(guard, [loss])  # the gradients are averages already
    else:
        found = torch.autograd.grad(value, live, allow_unused=True)
    check_used(found, value)
    gradient = filled(found, guard.params)
    if not any(map(_reduce.is_sharded, gradient)):
        average(guard, [loss, *gradient])
    return loss, gradient


def rounding(params: Tensors) -> float:
    """Relative rounding of what gradients are computed in: the parameters', or autocast's."""
    live = [p for p in params if p.requires_grad]
    dtypes = [p.dtype for p in live]
    kind = live[0].device.type
    if torch.is_autocast_enabled(kind):
        dtypes.append(torch.get_autocast_dtype(kind))
    return max(torch.finfo(dtype).eps for dtype in dtypes)


def average(guard: Untouched, tensors: Tensors) -> None:
    """Replace tensors by their means over the ranks, where the guard says so."""
    if guard.across_ranks:
        count = _reduce.sum_over_ranks(tensors)
        for tensor in tensors if count > 1 else ():
            tensor.div_(count)


def check_used(found: Sequence[Tensor | None], loss: Tensor) -> None:
    """Raise a ValueError if there is a gradient for none of the parameters, or some are hidden."""
    if all(g is not None for g in found):
        return
    if _holds(loss, "CheckpointFunctionBackward"):
        raise ValueError(
            "the loss passes a reentrant checkpoint, which hides its parameters; "
            "give torch.utils.checkpoint.checkpoint use_reentrant=False"
        )
    if all(g is None for g in found):
        raise ValueError(
            f"the loss uses none of the {len(found)} parameters; "
            "are they those of the model in the closure?"
        )


def _holds(loss: Tensor, name: str) -> bool:
    """Whether a node of that name is in the graph of a loss."""
    seen, stack = set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        if node.name() == name:
            return True
        seen.add(node)
        stack.extend(parent for parent, _ in node.next_functions)
    return False

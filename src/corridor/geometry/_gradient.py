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
    loss = guard.evaluate(closure)
    live = [p for p in guard.params if p.requires_grad]
    if any(_reduce.is_sharded(p) for p in live):  # the graph holds gathered copies of them
        found = guard.backward(loss)
    else:
        found = torch.autograd.grad(loss, live, allow_unused=True)
    check_used(found)
    return loss.detach(), filled(found, guard.params)


def check_used(found: tuple[Tensor | None, ...]) -> None:
    """Raise a ValueError if there is a gradient for none of the parameters."""
    if all(g is None for g in found):
        raise ValueError(
            f"the loss uses none of the {len(found)} parameters; "
            "are they those of the model in the closure?"
        )

"""A loss recorded with the graph of its gradient: products of its Hessian with any vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor._types import Tensors
from corridor.geometry._guard import Closure, Untouched
from corridor.geometry._weight_norm import has_fused_weight_norm, plain_weight_norm


class Tape:
    """Loss and gradient at a point, and ``H v`` by differentiating ``<g, v>`` once more.

    One product costs about two gradients. The graph lives until `product` is told it is the last,
    or the tape is dropped.

    Args:
        guard: entered, over the parameters.
        closure: computes the scalar loss.

    Attributes:
        loss: 0-dim, detached.
        gradient: detached, shaped like the parameters; zeros where the loss uses one not.

    Raises:
        ValueError: the loss uses none of the parameters.
        RuntimeError: as torch raises it, where an operation cannot be differentiated twice.
    """

    def __init__(self, guard: Untouched, closure: Closure) -> None:
        self.params = guard.params
        self.live = [i for i, p in enumerate(self.params) if p.requires_grad]
        loss = guard.evaluate(closure)
        if has_fused_weight_norm(loss):  # its double backward is wrong (torch 2.13)
            with plain_weight_norm():
                loss = guard.evaluate(closure)
        inputs = [self.params[i] for i in self.live]
        grads = torch.autograd.grad(loss, inputs, create_graph=True, allow_unused=True)
        if all(g is None for g in grads):
            raise ValueError(
                f"the loss uses none of the {len(inputs)} parameters; "
                "are they those of the model in the closure?"
            )
        self.grads = {
            i: g for i, g in zip(self.live, grads, strict=True) if g is not None and g.requires_grad
        }
        self.loss = loss.detach()
        self.gradient = self._filled(grads)

    def product(self, vector: Tensors, *, last: bool = False) -> list[Tensor]:
        """``H v``, shaped like the parameters.

        Args:
            vector: shaped like the parameters; what stands beside frozen ones is not used.
            last: free the graph.
        """
        if not self.grads:  # the loss is linear
            return [torch.zeros_like(p) for p in self.params]
        inputs = [self.params[i] for i in self.live]
        along = [vector[i] for i in self.grads]
        products = torch.autograd.grad(
            list(self.grads.values()), inputs, along, retain_graph=not last, allow_unused=True
        )
        if last:
            self.grads = {}
        return self._filled(products)

    def _filled(self, values: tuple[Tensor | None, ...]) -> list[Tensor]:
        """Values of the live parameters as plain dense tensors, zeros for all others."""
        by_index = dict(zip(self.live, values, strict=True))
        return [_dense(by_index.get(i), p) for i, p in enumerate(self.params)]


def _dense(value: Tensor | None, like: Tensor) -> Tensor:
    if value is None:
        return torch.zeros_like(like, requires_grad=False)
    value = value.detach()
    return value.to_dense() if value.is_sparse else value

"""A loss recorded with the graph of its gradient: products of its Hessian with any vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor._types import Tensors
from corridor.geometry import _gradient
from corridor.geometry._guard import Closure, Untouched


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
        self.inputs = [p for p in self.params if p.requires_grad]
        loss = guard.evaluate(closure)
        grads = torch.autograd.grad(loss, self.inputs, create_graph=True, allow_unused=True)
        _gradient.check_used(grads, loss)
        self.recorded = {i: g for i, g in enumerate(grads) if g is not None and g.requires_grad}
        self.loss = loss.detach()
        self.gradient = _gradient.filled(grads, self.params)

    def product(self, vector: Tensors, *, last: bool = False) -> list[Tensor]:
        """``H v``, shaped like the parameters.

        Args:
            vector: shaped like the parameters; what stands beside frozen ones is not used.
            last: free the graph.
        """
        if not self.recorded:  # the loss is linear
            return _gradient.filled([None] * len(self.inputs), self.params)
        along = [v for v, p in zip(vector, self.params, strict=True) if p.requires_grad]
        products = torch.autograd.grad(
            list(self.recorded.values()),
            self.inputs,
            [along[i] for i in self.recorded],
            retain_graph=not last,
            allow_unused=True,
        )
        if last:
            self.recorded = {}
        return _gradient.filled(products, self.params)

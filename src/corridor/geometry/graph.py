"""Compute gradients and products with the Hessian from the graph of a recorded loss."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from corridor import _reduce, _torch, _tree
from corridor._types import LossClosure, Tensors
from corridor.geometry import _kernels
from corridor.geometry._gradient import average, check_used, filled
from corridor.geometry._guard import Untouched
from corridor.geometry._inputs import loss_with_graph, one_line
from corridor.geometry._nodes import nodes, rounding, rounding_of_products

USE_PLAIN_ATTENTION = "compute attention inside torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
LOST = "a hook or a backward pass returns gradients without their graph"
REMEDIES = {
    "aot_autograd": "leave the model uncompiled, or compile it with backend='eager'",
    "fused weight_norm": "call corridor.geometry.jet instead",
    "once_differentiable": "write its backward pass in torch's operations, without this mark",
    "without their graph": "write the hook or backward pass in torch's operations, without detach",
    "a second time": "call this before the backward pass, which frees the graph",
}

COMPLETE = WeakTensorKeyDictionary()  # first parameters whose graph was complete


class Graph:
    """Hold the gradient of a recorded loss, and multiply its Hessian H by any vector.

    All products with H in this package come from here. Each costs about two gradients. The
    gradient is zero for unused parameters. All parameters require a gradient.
    """

    def __init__(
        self,
        loss: Tensor,
        params: Tensors,
        layers: Callable[[], AbstractContextManager[Any]] = nullcontext,
        across_ranks: bool = False,
    ) -> None:
        self.params, self.layers, self.across_ranks = list(params), layers, across_ranks
        found = list(nodes(loss))
        _kernels.refuse(found)
        self._eps = rounding_of_products(rounding(found), loss)
        self._root, self._value = torch.ones_like(loss, requires_grad=True), loss
        grads = self._gradient(self._root, create_graph=True)
        check_used(grads, loss)
        self._recorded = {i: g for i, g in enumerate(grads) if g is not None and g.requires_grad}
        self.loss, self.gradient = loss.detach(), filled(grads, self.params)
        self.used = [g is not None for g in grads]
        lost = [g for g in grads if g is not None and not g.requires_grad]
        if any(bool(g.any()) for g in lost):  # it would depend on the root
            raise _kernels.WrongDerivativeError(LOST)
        self.complete = False
        if across_ranks:  # the graph holds these tensors, and DDP does not average in autograd.grad
            self.loss, self.gradient = self.loss.clone(), [g.clone() for g in self.gradient]
            average([self.loss, *self.gradient])

    def _gradient(self, root: Tensor, *, create_graph: bool = False) -> tuple[Tensor | None, ...]:
        options = {"create_graph": create_graph, "retain_graph": True, "allow_unused": True}
        with self.layers():
            return torch.autograd.grad(self._value, self.params, root, **options)

    def product(self, vector: Tensors, *, last: bool = False) -> list[Tensor]:
        """Return ``H v``, and free the graph if this is the last product."""
        if not self._recorded:  # all gradients are 0
            return [torch.zeros_like(p) for p in self.params]
        along = [vector[i] for i in self._recorded]
        with self.layers():
            gradients, to = list(self._recorded.values()), [*self.params, self._root]
            options = {"retain_graph": not last, "allow_unused": True}
            *products, slope = torch.autograd.grad(gradients, to, along, **options)
        if not self.complete:
            self._check_complete(along, slope, last)
        if last:  # the gradients hold the graph
            self._recorded = {}
        found = filled(products, self.params)
        if self.across_ranks:
            average(found)
        return found

    def _check_complete(self, along: Tensors, slope: Tensor | None, last: bool) -> None:
        """Raise WrongDerivativeError if the graph of the gradient is not linear in the root.

        A hook that clips a gradient is not linear. Its derivative by the root is compared with
        gradients at two other roots. Overflow and underflow count as right.
        """
        gradient = [g.detach() for g in self._recorded.values()]
        size = (_tree.whole_squared_norm(gradient) * _tree.whole_squared_norm(along)).sqrt()
        found = torch.zeros_like(size) if slope is None else slope.to(size)
        linear = _tree.whole_dot(gradient, along)
        # A collective in the graph brings in other ranks' roots, and reading them could block.
        alone = _reduce.world_size() == 1
        noise = self._eps**0.5 * size + torch.finfo(self._value.dtype).tiny
        if alone and bool(found.isfinite() & ((found - linear).abs() > noise)):
            if last:
                raise _kernels.WrongDerivativeError(LOST)
            one, step = torch.ones_like(self._value), self._eps ** (1 / 3)
            ends = (self._gradient(one * (1.0 + s)) for s in (step, -step))
            ahead, behind = (filled(end, self.params) for end in ends)
            change = [ahead[i] - behind[i] for i in self._recorded]
            true = _tree.whole_dot(change, along) / (2.0 * step)
            if bool((true - linear).abs() < (true - found).abs()):
                raise _kernels.WrongDerivativeError(LOST)
        self.complete = True


def record(guard: Untouched, closure: LossClosure) -> Graph:
    """Evaluate a closure inside an entered guard and return the graph of its loss."""
    loss = _kernels.evaluate(guard, closure)
    return Graph(loss, guard.params, guard.layers, guard.across_ranks)


class Product(NamedTuple):
    """Hold a gradient g and a product H v, each as one tensor per parameter in use."""

    gradient: list[Tensor]
    product: list[Tensor]


def from_graph(
    loss: Tensor, params: Tensors, along: Callable[[Tensor, Tensor], Tensor] | None = None
) -> Product:
    """Compute the gradient g and a product H v of a recorded loss, and keep its graph.

    The vector v is ``along(p, g)`` for each parameter in use (default: g). There is no forward
    pass, so neither the model nor any `.grad` changes.
    """
    loss_with_graph(loss)
    live = [p for p in params if p.requires_grad]
    if any(map(_reduce.is_sharded, live)):
        raise ValueError(
            "params must be whole tensors, got sharded tensors, whose gradients cannot be "
            "differentiated again; use DistributedDataParallel"
        )
    # A static graph of DDP would take this for its first backward pass, and not average later.
    static = _torch.ddp_modules(nodes(loss))
    enqueued = [vars(module).get(_torch.DDP_STATE[2]) for module in static]
    for module in static:
        vars(module)[_torch.DDP_STATE[2]] = True
    try:
        graph = Graph(loss, live)
        graph.complete = live[0] in COMPLETE  # one comparison, because it waits for the device
        rows = list(zip(live, graph.gradient, graph.used, strict=True))
        vectors = [along(p, g) if along and used else g for p, g, used in rows]
        products = graph.product(vectors)
        COMPLETE[live[0]] = True
    except RuntimeError as error:
        text = one_line(error)
        remedy = next((r for sign, r in REMEDIES.items() if sign in text), USE_PLAIN_ATTENTION)
        raise ValueError(f"the loss cannot be differentiated twice ({text}); {remedy}") from error
    finally:
        for module, value in zip(static, enqueued, strict=True):
            vars(module)[_torch.DDP_STATE[2]] = value
    found = list(compress(zip(graph.gradient, products, strict=True), graph.used))
    return Product([g for g, _ in found], [h for _, h in found])

"""Gradient and Hessian-gradient product from the graph of a loss that is there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from corridor import _reduce
from corridor._types import Tensors
from corridor.geometry._gradient import check_used, holds

ATTENTION = "for attention, compute it inside torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
WAYS_OUT = {
    "aot_autograd": "leave the model uncompiled, or compile it with backend='eager'",
    "a second time": "it was differentiated already: give it before its backward pass",
}


class Product(NamedTuple):
    """What `from_graph` gives: a tensor each for every parameter that the loss uses.

    Attributes:
        params: those parameters.
        gradient: g.
        along: v.
        product: H v.
    """

    params: list[Tensor]
    gradient: list[Tensor]
    along: list[Tensor]
    product: list[Tensor]


def from_graph(
    loss: Tensor, params: Tensors, along: Callable[[Tensor, Tensor], Tensor] | None = None
) -> Product:
    """The gradient g and a product H v of a recorded loss, whose graph stays for the backward.

    No forward pass is made, so that nothing of the model changes, and `.grad` is not touched.

    Args:
        loss: 0-dim, with its graph.
        params: what to differentiate by, of one device; those the loss does not use are left out.
        along: gives v of a parameter and its gradient; default v = g.

    Returns:
        The parameters in use, and of each gradient, vector and product, detached.

    Raises:
        ValueError: the loss uses none of the parameters, they are sharded, or an operation in the
            graph cannot be differentiated twice (or only wrongly).

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> found = from_graph((x**3).sum(), [x])
        >>> found.gradient, found.product  # 3 x^2 and 6 x * 3 x^2
        ([tensor([ 3., 12.])], [tensor([ 18., 144.])])
    """
    live = [p for p in params if p.requires_grad]
    if any(_reduce.is_sharded(p) for p in live):
        raise ValueError(
            "expected whole parameters, got sharded ones, whose gradients cannot be "
            "differentiated again; use DistributedDataParallel"
        )
    if holds(loss, "WeightNormInterfaceBackward"):
        raise ValueError(
            "expected a graph that can be differentiated twice, got torch's fused weight_norm, "
            "whose second derivative is wrong; use parametrizations.weight_norm under "
            "corridor.geometry.jet, or none"
        )
    try:
        gradient = torch.autograd.grad(loss, live, create_graph=True, allow_unused=True)
        check_used(gradient, loss)
        used = [(p, g) for p, g in zip(live, gradient, strict=True) if g is not None]
        vectors = [g.detach() if along is None else along(p, g.detach()) for p, g in used]
        products = [None] * len(used)
        curved = [(g, v) for (_, g), v in zip(used, vectors, strict=True) if g.requires_grad]
        if curved:
            products = torch.autograd.grad(
                [g for g, _ in curved],
                [p for p, _ in used],
                [v for _, v in curved],
                retain_graph=True,
                allow_unused=True,
            )
    except RuntimeError as error:
        text = " ".join(str(error).split())[:160]
        way_out = next((way for sign, way in WAYS_OUT.items() if sign in text), ATTENTION)
        raise ValueError(
            f"the loss cannot be differentiated twice here ({text}); {way_out}"
        ) from error
    found = [
        torch.zeros_like(g) if product is None else product.detach()
        for (_, g), product in zip(used, products, strict=True)
    ]
    return Product([p for p, _ in used], [g.detach() for _, g in used], vectors, found)

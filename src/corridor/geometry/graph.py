"""Gradient and Hessian-gradient product from the graph of a loss that is there already."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor import _reduce
from corridor._types import Tensors
from corridor.geometry._gradient import check_used
from corridor.geometry._weight_norm import has_fused_weight_norm


def from_graph(loss: Tensor, params: Tensors) -> tuple[list[Tensor], list[Tensor]]:
    """Both g and Hg of a recorded loss, whose graph stays for the backward to come.

    No forward pass is made, so that nothing of the model changes, and `.grad` is not touched.

    Args:
        loss: 0-dim, with its graph.
        params: what to differentiate by, of one device; those the loss does not use are left out.

    Returns:
        Gradients and products, detached, one of each for every parameter that the loss uses.

    Raises:
        ValueError: the loss uses none of the parameters, they are sharded, or an operation in the
            graph cannot be differentiated twice (or only wrongly).

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> from_graph((x**3).sum(), [x])
        ([tensor([ 3., 12.])], [tensor([ 18., 144.])])
    """
    live = [p for p in params if p.requires_grad]
    if any(_reduce.is_sharded(p) for p in live):
        raise ValueError(
            "expected whole parameters, got sharded ones, whose gradients cannot be "
            "differentiated again; use DistributedDataParallel"
        )
    if has_fused_weight_norm(loss):
        raise ValueError(
            "expected a graph that can be differentiated twice, got torch's fused weight_norm, "
            "whose second derivative is wrong; use parametrizations.weight_norm under "
            "corridor.geometry.jet, or none"
        )
    try:
        gradient = torch.autograd.grad(loss, live, create_graph=True, allow_unused=True)
        check_used(gradient, loss)
        used = [(p, g) for p, g in zip(live, gradient, strict=True) if g is not None]
        curved = [g for _, g in used if g.requires_grad]
        if not curved:  # the loss is linear
            products = [None] * len(used)
        else:
            along = [g.detach() for g in curved]
            inputs = [p for p, _ in used]
            products = torch.autograd.grad(
                curved, inputs, along, retain_graph=True, allow_unused=True
            )
    except RuntimeError as error:
        text = " ".join(str(error).split())[:160]
        raise ValueError(
            f"the loss cannot be differentiated twice here ({text}); for attention, compute it "
            "inside torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
        ) from error
    found = [
        torch.zeros_like(g) if product is None else product.detach()
        for (_, g), product in zip(used, products, strict=True)
    ]
    return [g.detach() for _, g in used], [h.detach() for h in found]

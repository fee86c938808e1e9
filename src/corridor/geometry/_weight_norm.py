"""Torch's fused weight normalisation, whose second derivative is wrong, told by its node."""

from __future__ import annotations

from torch import Tensor

FUSED = "WeightNormInterfaceBackward"


def has_fused_weight_norm(loss: Tensor) -> bool:
    """Whether the graph of a loss holds the fused kernel."""
    seen, stack = set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().startswith(FUSED):
            return True
        stack.extend(parent for parent, _ in node.next_functions)
    return False

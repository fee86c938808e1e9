"""Read the graph of a loss, node by node."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from corridor import _torch


def nodes(loss: Tensor) -> Iterator[Any]:
    """Yield every node in the graph of a loss once."""
    seen, stack = set(), [loss.grad_fn]  # deep graphs would overflow a recursion
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        yield node
        seen.add(node)
        stack.extend(parent for parent, _ in node.next_functions)


def rounding(found: Iterable[Any]) -> float:
    """Return the relative rounding error in nodes of a graph, by their dtypes."""
    dtypes = {m.dtype for node in found for m in _torch.output_metadata(node)}
    return max(torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point)


def rounding_of_products(eps: float, loss: Tensor) -> float:
    """Return a rounding error that allows for TF32: a GPU may round factors to 11 bits."""
    return eps if loss.is_cpu or eps < 1e-9 else max(eps, 2.0**-11)

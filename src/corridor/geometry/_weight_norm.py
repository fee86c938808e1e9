"""Weight normalisation by its formula: torch's fused kernel has a wrong second derivative."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

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


@contextmanager
def plain_weight_norm() -> Iterator[None]:
    """Inside, ``g v / ||v||`` is composed of operations that differentiate any number of times."""
    with _Composed():
        yield


class _Composed(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch._weight_norm:  # pyright: ignore[reportPrivateImportUsage]
            return _weight_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))

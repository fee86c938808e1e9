"""Moves parameters away from where they are, and back to the last bit."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from corridor._types import Tensors


class Moved(AbstractContextManager["Moved"]):
    """Inside, `to` places the parameters at ``theta + length v``; at exit they are at theta.

    What autograd saved of them before stays usable, as they return to the very same values.

    Args:
        params: leaves; frozen ones stay.
        direction: v, shaped like them.
    """

    def __init__(self, params: Tensors, direction: Tensors) -> None:
        pairs = zip(params, direction, strict=True)
        self.pairs = [(p.data, v) for p, v in pairs if p.requires_grad]  # .data: no new version

    def __enter__(self) -> Moved:
        self.start = [p.clone() for p, _ in self.pairs]
        return self

    def to(self, length: float | Tensor) -> None:
        """Place the parameters at ``theta + length v``."""
        length = float(length)
        with torch.no_grad():
            for (p, v), start in zip(self.pairs, self.start, strict=True):
                p.copy_(start + length * v)

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for (p, _v), start in zip(self.pairs, self.start, strict=True):
                p.copy_(start)

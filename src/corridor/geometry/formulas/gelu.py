"""GELU, ``x Phi(x)``, with its second derivative ``(2 - x^2) phi(x)`` in closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def gelu(input: Tensor, *, approximate: str = "none") -> Any:
    """Compute ``torch.nn.functional.gelu``, or return NotImplemented to use torch's own.

    Args:
        input: x, of any shape. Only float32 and float64 are supported.
        approximate: "none" (default). Torch computes the tanh approximation.
    """
    if input.dtype not in (torch.float32, torch.float64) or approximate != "none":
        return NotImplemented
    return _Forward.apply(input)


class _Forward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        return torch.ops.aten.gelu(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Backward.apply(dy, *ctx.saved_tensors)


class _Backward(Function):
    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(dy, x)
        return torch.ops.aten.gelu_backward(dy, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        dy, x = ctx.saved_tensors
        square = x.square()
        density = square.mul(-0.5).exp_().mul_(1.0 / math.sqrt(2.0 * math.pi))
        of_x = square.neg_().add_(2.0).mul_(density).mul_(dy).mul_(v)
        return torch.ops.aten.gelu_backward(v, x), of_x

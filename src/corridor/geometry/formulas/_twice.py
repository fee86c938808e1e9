"""Make differentiable functions from a formula of the first and one of the second derivative."""

from collections.abc import Callable
from typing import Any

from torch.autograd import Function
from torch.autograd.function import once_differentiable


def formula(forward: Callable, backward: Callable, second: Callable) -> Callable[..., Any]:
    """Return a function for two backward passes and no forward mode.

    The first two functions return a result, and tensors that the next function gets as well:
    ``forward(*arguments)``, ``backward(dy, *saved)``, ``second(*cotangents, dy, *saved, *more)``.
    """

    class Backward(Function):
        @staticmethod
        def forward(ctx: Any, *saved: Any) -> Any:
            gradients, more = backward(*saved)
            ctx.save_for_backward(*saved, *more)
            return gradients

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *cotangents: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            return second(*cotangents, *ctx.saved_tensors)

    class Forward(Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            y, saved = forward(*arguments)
            ctx.save_for_backward(*saved)
            ctx.arguments = len(arguments)
            return y

        @staticmethod
        def backward(ctx: Any, *dy: Any) -> Any:
            gradients = Backward.apply(*dy, *ctx.saved_tensors)
            return (*gradients, *[None] * (ctx.arguments - len(gradients)))

    return Forward.apply

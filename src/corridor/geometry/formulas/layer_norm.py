"""Layer normalization whose second derivative reads the activations only a few times.

Each row has N numbers, and ``xhat = (x - mean) / s``. P is the projection
``P u = u - mean(u) - xhat mean(u xhat)``. The gradient of ``y = gamma xhat + beta`` is

    dx = P (gamma dy) / s,    dgamma = sum(dy xhat),    dbeta = sum(dy)

with sums over rows. Let v, a, b be the cotangents of these three and ``w = P v / s``. Torch's fused
backward with gamma = 1 computes w. The second backward pass is

    of dy:     gamma w + a xhat + b
    of gamma:  sum(dy w)
    of x:      P (a dy) / s - (sum(v xhat) dx + sum(gamma dy xhat) w + sum(gamma dy w) xhat) / (N s)

with sums along each row in the last line. Batch normalization has a similar formula.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    """Compute ``torch.nn.functional.layer_norm``, or return NotImplemented to use torch's own.

    Arguments are those of the function in torch, which computes layers without weight or bias,
    16-bit and mixed dtypes, and empty input.
    """
    if weight is None or bias is None or weight.dtype != input.dtype or not input.numel():
        return NotImplemented
    if input.dtype not in (torch.float32, torch.float64):
        return NotImplemented
    return _Forward.apply(input, weight, bias, list(normalized_shape), eps)


def _backward(dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, rstd: Tensor) -> Any:
    """Return dx by torch's fused kernel, and dgamma and dbeta if gamma is given; x has rows."""
    wanted = [True, gamma is not None, gamma is not None]
    return torch.ops.aten.native_layer_norm_backward(
        dy, x, [x.shape[-1]], mean, rstd, gamma, gamma, wanted
    )


class _Forward(Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, shape: list[int], eps: float
    ) -> Tensor:
        y, mean, rstd = torch.ops.aten.native_layer_norm(x, shape, gamma, beta, eps)
        ctx.save_for_backward(x, gamma, mean.view(-1, 1), rstd.view(-1, 1))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gamma, mean, rstd = ctx.saved_tensors
        rows, flat = x.reshape(-1, gamma.numel()), gamma.reshape(-1)
        dx, dgamma, dbeta = _Backward.apply(dy.reshape(rows.shape), rows, flat, mean, rstd)
        return dx.view(dy.shape), dgamma.view_as(gamma), dbeta.view_as(gamma), None, None


class _Backward(Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, dy: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        gradients = _backward(dy, x, gamma, mean, rstd)
        ctx.save_for_backward(dy, x, gamma, mean, rstd, gradients[0])
        return gradients

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor, a: Tensor, b: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        dy, x, gamma, mean, rstd, dx = ctx.saved_tensors
        xhat = (x - mean).mul_(rstd)
        w = _backward(v, x, None, mean, rstd)[0]
        of_dy = torch.addcmul(b, xhat, a).addcmul_(w, gamma)
        product = dy * w
        dgamma = product.sum(0)
        bend = product @ gamma[:, None]
        along_v = torch.linalg.vecdot(v, xhat)[:, None]
        along_dy = (dy * xhat) @ gamma[:, None]
        of_x = _backward(dy * a, x, None, mean, rstd)[0]
        share = rstd / -x.shape[-1]
        of_x.addcmul_(dx, along_v * share).addcmul_(w, along_dy * share)
        of_x.addcmul_(xhat, bend * share)
        return of_dy, of_x, dgamma, None, None

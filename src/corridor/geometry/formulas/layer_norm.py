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

from corridor.geometry.formulas._twice import formula


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
    shape = torch.Size(normalized_shape)
    fits = input.shape[-len(shape) :] == shape == weight.shape == bias.shape
    if input.dtype not in (torch.float32, torch.float64) or not fits:  # torch reports a shape
        return NotImplemented
    rows = input.reshape(-1, weight.numel())
    return _layer_norm(rows, weight.reshape(-1), bias.reshape(-1), eps).view(input.shape)


def _fused(dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, rstd: Tensor) -> Any:
    """Return dx by torch's fused kernel, and dgamma and dbeta if gamma is given."""
    wanted = [True, gamma is not None, gamma is not None]
    return torch.ops.aten.native_layer_norm_backward(
        dy, x, [x.shape[-1]], mean, rstd, gamma, gamma, wanted
    )


def _forward(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Any:
    y, mean, rstd = torch.ops.aten.native_layer_norm(x, [x.shape[-1]], gamma, beta, eps)
    return y, (x, gamma, mean, rstd)


def _backward(dy: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor) -> Any:
    gradients = _fused(dy, x, gamma, mean, rstd)
    return gradients, gradients[:1]


def _second(v: Tensor, a: Tensor, b: Tensor, dy: Tensor, x: Tensor, *saved: Tensor) -> Any:
    gamma, mean, rstd, dx = saved
    xhat = (x - mean).mul_(rstd)
    w = _fused(v, x, None, mean, rstd)[0]
    of_dy = torch.addcmul(b, xhat, a).addcmul_(w, gamma)
    product = dy * w
    dgamma = product.sum(0)
    bend = product @ gamma[:, None]
    along_v = torch.linalg.vecdot(v, xhat)[:, None]
    along_dy = (dy * xhat) @ gamma[:, None]
    of_x = _fused(dy * a, x, None, mean, rstd)[0]
    share = rstd / -x.shape[-1]
    of_x.addcmul_(dx, along_v * share).addcmul_(w, along_dy * share)
    of_x.addcmul_(xhat, bend * share)
    return of_dy, of_x, dgamma, None, None


_layer_norm = formula(_forward, _backward, _second)

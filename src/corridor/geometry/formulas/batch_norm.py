"""Batch normalization whose second derivative reads the activations only a few times.

Each channel has N numbers, and ``xhat = (x - mean) / s``. P is the projection
``P u = u - mean(u) - xhat mean(u xhat)``. The gradient of ``y = gamma xhat + beta`` is

    dx = (gamma / s) P dy,    dgamma = sum(dy xhat),    dbeta = sum(dy).

Let v, a, b be the cotangents of these three, ``d = P dy / s`` and ``w = P v / s``. Torch's fused
backward with gamma = 1 computes d and w. The second backward pass is

    of dy:     gamma w + a xhat + b
    of gamma:  sum(dy w)
    of x:      (a - gamma sum(v xhat) / (N s)) d - (gamma sum(dy xhat) / (N s)) w
               - (gamma sum(dy w) / (N s)) xhat

The last line contains the change of ``1 / s``, which is ``d(1/s)/dx = -xhat / (N s^2)``.
"""

from typing import Any

import torch
from torch import Tensor

from corridor.geometry.formulas._twice import formula


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Compute ``torch.nn.functional.batch_norm``, or return NotImplemented to use torch's own.

    Arguments are those of the function in torch, which computes 16-bit and mixed dtypes.
    """
    same = all(t is None or t.dtype == input.dtype for t in (running_mean, weight, bias))
    if input.dtype not in (torch.float32, torch.float64) or not same:
        return NotImplemented
    if not training:
        if running_mean is None or running_var is None:
            return NotImplemented
        slope = (running_var + eps).rsqrt() * (1.0 if weight is None else weight)
        offset = (0.0 if bias is None else bias) - running_mean * slope
        return torch.addcmul(_per_channel(offset, input), input, _per_channel(slope, input))
    if input.numel() <= input.shape[1]:  # torch reports that one value per channel is too few
        return NotImplemented
    gamma = input.new_ones(input.shape[1]) if weight is None else weight
    beta = input.new_zeros(input.shape[1]) if bias is None else bias
    return _batch_norm(input, gamma, beta, running_mean, running_var, momentum, eps)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1 for _ in range(like.dim() - 2)))


def _fused(dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, rstd: Tensor) -> Any:
    """Return dx, dgamma and dbeta by torch's fused kernel."""
    return torch.ops.aten.native_batch_norm_backward(
        dy, x, gamma, None, None, mean, rstd, True, 0.0, [True, True, True]
    )


def _forward(x: Tensor, gamma: Tensor, beta: Tensor, *options: Any) -> Any:
    running_mean, running_var, momentum, eps = options
    y, mean, rstd = torch.ops.aten.native_batch_norm(
        x, gamma, beta, running_mean, running_var, True, momentum, eps
    )
    return y, (x, gamma, mean, rstd)


def _backward(dy: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor) -> Any:
    gradients = _fused(dy, x, gamma, mean, rstd)
    return gradients, gradients[1:2]


def _second(v: Tensor, a: Tensor, b: Tensor, dy: Tensor, x: Tensor, *saved: Tensor) -> Any:
    gamma, mean, rstd, dot_dy = saved
    w, dot_v, _ = _fused(v, x, None, mean, rstd)
    d = _fused(dy, x, None, mean, rstd)[0]
    channels = [i for i in range(x.dim()) if i != 1]
    dgamma = (dy * w).sum(channels)
    share = gamma * rstd / (x.numel() // x.shape[1])

    def per(values: Tensor) -> Tensor:
        return _per_channel(values, x)

    of_dy = torch.addcmul(per(b - a * rstd * mean), x, per(a * rstd))
    of_dy.addcmul_(w, per(gamma))
    bend = share * dgamma * rstd
    of_x = torch.addcmul(per(bend * mean), x, per(-bend))
    of_x.addcmul_(d, per(a - share * dot_v)).addcmul_(w, per(-share * dot_dy))
    return of_dy, of_x, dgamma, None, None


_batch_norm = formula(_forward, _backward, _second)

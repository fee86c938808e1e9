"""Compute some layers by formulas whose second derivative is correct, exists or is cheap.

Torch's kernel for weight normalization has a wrong second derivative, and its fused attention has
none. The second derivatives of batch normalization, layer normalization and GELU read the
activations several times more often than needed. Inside `Formulas`, equal formulas replace them.

The page docs/mathematics.md derives the second backward pass of normalization.
"""

import math
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Parameter, functional
from torch.overrides import TorchFunctionMode

from corridor import _torch

COMPOSE: ContextVar[bool] = ContextVar("compose", default=False)


class ThirdDerivativeError(RuntimeError):
    """Say that a closure needs a third derivative, which formulas by hand do not have."""


class Formulas(TorchFunctionMode):
    """Replace the layers above in the block; without `renormalize`, embeddings keep their rows."""

    def __init__(self, renormalize: bool, by_hand: bool) -> None:
        super().__init__()
        self.renormalize, self.by_hand = renormalize, by_hand

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in EMBEDDINGS and not self.renormalize:
            kwargs = {**kwargs, "max_norm": None}
        formula = _formula(func, self.by_hand)
        if formula and all(map(_is_plain, (*args, *kwargs.values()))):
            before = COMPOSE.set(not self.by_hand)
            found = formula(*args, **kwargs)
            COMPOSE.reset(before)
            if found is not NotImplemented:
                return found
        return func(*args, **kwargs)


def _formula(func: Any, by_hand: bool) -> Any:
    """Return the formula of a layer; in forward mode only one that torch composes."""
    others = {} if by_hand and _torch.forward_mode_is_on() else BY_HAND
    formula = COMPOSED.get(func) or others.get(func)
    # A checkpoint runs its layers again, outside of the block. They are torch's both times.
    return None if formula and _torch.saved_tensors_have_hooks() else formula


def _is_plain(argument: Any) -> bool:
    """Return False for nested tensors, subclasses and tensors in torch.func, which have rules."""
    if not isinstance(argument, Tensor):
        return True
    ordinary = type(argument) in (Tensor, Parameter) and argument.device.type in ("cpu", "cuda")
    return ordinary and not argument.is_nested and not _torch.is_functorch_wrapped(argument)


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Compute ``g v / ||v||`` with one norm per index of `dim`, as torch does."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Compute ``softmax(scale q k^T) v``, or return NotImplemented with a mask or dropout."""
    if attn_mask is not None or dropout_p > 0.0 or enable_gqa or query.dim() < 3:
        return NotImplemented
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        shape = scores.shape[-2:]
        scores = scores + scores.new_full(shape, float("-inf")).triu_(1)
    return scores.softmax(-1) @ value


def formula(forward: Callable, backward: Callable, second: Callable, composed: Callable) -> Any:
    """Return a function for two backward passes and no forward mode.

    The first two functions return a result, and tensors that the next function gets as well:
    ``forward(*arguments)``, ``backward(dy, *saved)``, ``second(*cotangents, dy, *saved, *more)``.
    With `COMPOSE`, ``composed(*arguments)`` has derivatives of any order.
    """

    class Backward(Function):
        @staticmethod
        def forward(ctx: Any, *saved: Any) -> Any:
            gradients, more = backward(*saved)
            ctx.save_for_backward(*saved, *more)
            return gradients

        @staticmethod
        def backward(ctx: Any, *cotangents: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            if torch.is_grad_enabled():
                raise ThirdDerivativeError("formulas by hand have two derivatives")
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

    return lambda *args: (composed if COMPOSE.get() else Forward.apply)(*args)


def gelu(input: Tensor, *, approximate: str = "none") -> Any:
    """Compute ``x Phi(x)`` with its second derivative, ``(2 - x^2) phi(x)``, in closed form."""
    if input.dtype not in (torch.float32, torch.float64) or approximate != "none":
        return NotImplemented
    return _gelu(input)


def _gelu_second(v: Tensor, dy: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    square = x.square()
    density = square.mul(-0.5).exp_().mul_(1.0 / math.sqrt(2.0 * math.pi))
    of_x = square.neg_().add_(2.0).mul_(density).mul_(dy).mul_(v)
    return torch.ops.aten.gelu_backward(v, x), of_x


_gelu = formula(
    forward=lambda x: (torch.ops.aten.gelu(x), (x,)),
    backward=lambda dy, x: ((torch.ops.aten.gelu_backward(dy, x),), ()),
    second=_gelu_second,
    composed=torch.ops.aten.gelu,
)


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
    """Compute ``functional.batch_norm``, or return NotImplemented for 16-bit and mixed dtypes."""
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


def _normalized(x: Tensor, dims: list[int], eps: float) -> Tensor:
    apart = x - x.mean(dims, keepdim=True)
    return apart * (apart.square().mean(dims, keepdim=True) + eps).rsqrt()


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1 for _ in range(like.dim() - 2)))


def _batch_fused(dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, rstd: Tensor) -> Any:
    """Return dx, dgamma and dbeta by torch's fused kernel."""
    return torch.ops.aten.native_batch_norm_backward(
        dy, x, gamma, None, None, mean, rstd, True, 0.0, [True, True, True]
    )


def _batch_forward(x: Tensor, gamma: Tensor, beta: Tensor, *options: Any) -> Any:
    running_mean, running_var, momentum, eps = options
    y, mean, rstd = torch.ops.aten.native_batch_norm(
        x, gamma, beta, running_mean, running_var, True, momentum, eps
    )
    return y, (x, gamma, mean, rstd)


def _batch_backward(dy: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor) -> Any:
    gradients = _batch_fused(dy, x, gamma, mean, rstd)
    return gradients, gradients[1:2]


def _batch_second(v: Tensor, a: Tensor, b: Tensor, dy: Tensor, x: Tensor, *saved: Tensor) -> Any:
    gamma, mean, rstd, dot_dy = saved
    w, dot_v, _ = _batch_fused(v, x, None, mean, rstd)
    d = _batch_fused(dy, x, None, mean, rstd)[0]
    channels = [i for i in range(x.dim()) if i != 1]
    dgamma = (dy * w).sum(channels)
    share = gamma * rstd / (x.numel() // x.shape[1])
    per = partial(_per_channel, like=x)
    of_dy = torch.addcmul(per(b - a * rstd * mean), x, per(a * rstd))
    of_dy.addcmul_(w, per(gamma))
    bend = share * dgamma * rstd
    of_x = torch.addcmul(per(bend * mean), x, per(-bend))
    of_x.addcmul_(d, per(a - share * dot_v)).addcmul_(w, per(-share * dot_dy))
    return of_dy, of_x, dgamma, None, None


def _batch_composed(x: Tensor, gamma: Tensor, beta: Tensor, *options: Any) -> Tensor:
    """Normalize without a kernel, which only moves the running statistics."""
    with torch.no_grad():
        _batch_forward(x, gamma, beta, *options)
    y = _normalized(x, [i for i in range(x.dim()) if i != 1], options[-1])
    return torch.addcmul(_per_channel(beta, x), y, _per_channel(gamma, x))


_batch_norm = formula(_batch_forward, _batch_backward, _batch_second, _batch_composed)


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Compute ``functional.layer_norm``, or return NotImplemented for rare forms of it."""
    shape = torch.Size(normalized_shape)
    weight = input.new_ones(shape) if weight is None else weight
    bias = input.new_zeros(shape) if bias is None else bias
    fits = input.shape[-len(shape) :] == shape == weight.shape == bias.shape and input.numel()
    known = weight.dtype == input.dtype in (torch.float32, torch.float64)
    if not fits or not known:  # torch reports a wrong shape
        return NotImplemented
    rows = input.reshape(-1, weight.numel())
    return _layer_norm(rows, weight.reshape(-1), bias.reshape(-1), eps).view(input.shape)


def _layer_fused(dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, rstd: Tensor) -> Any:
    """Return dx by torch's fused kernel, and dgamma and dbeta if gamma is given."""
    wanted = [True, gamma is not None, gamma is not None]
    return torch.ops.aten.native_layer_norm_backward(
        dy, x, [x.shape[-1]], mean, rstd, gamma, gamma, wanted
    )


def _layer_forward(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Any:
    y, mean, rstd = torch.ops.aten.native_layer_norm(x, [x.shape[-1]], gamma, beta, eps)
    return y, (x, gamma, mean, rstd)


def _layer_backward(dy: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor) -> Any:
    gradients = _layer_fused(dy, x, gamma, mean, rstd)
    return gradients, gradients[:1]


def _layer_second(v: Tensor, a: Tensor, b: Tensor, dy: Tensor, x: Tensor, *saved: Tensor) -> Any:
    gamma, mean, rstd, dx = saved
    xhat = (x - mean).mul_(rstd)
    w = _layer_fused(v, x, None, mean, rstd)[0]
    of_dy = torch.addcmul(b, xhat, a).addcmul_(w, gamma)
    product = dy * w
    dgamma = product.sum(0)
    bend = product @ gamma[:, None]
    along_v = torch.linalg.vecdot(v, xhat)[:, None]
    along_dy = (dy * xhat) @ gamma[:, None]
    of_x = _layer_fused(dy * a, x, None, mean, rstd)[0]
    share = rstd / -x.shape[-1]
    of_x.addcmul_(dx, along_v * share).addcmul_(w, along_dy * share)
    of_x.addcmul_(xhat, bend * share)
    return of_dy, of_x, dgamma, None, None


def _layer_composed(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    return torch.addcmul(beta, _normalized(x, [-1], eps), gamma)


_layer_norm = formula(_layer_forward, _layer_backward, _layer_second, _layer_composed)


EMBEDDINGS = (functional.embedding, functional.embedding_bag)
COMPOSED: dict[Any, Any] = {
    _torch.weight_norm: weight_norm,
    functional.scaled_dot_product_attention: attention,
}
BY_HAND: dict[Any, Any] = {
    functional.batch_norm: batch_norm,
    functional.layer_norm: layer_norm,
    functional.gelu: gelu,
}

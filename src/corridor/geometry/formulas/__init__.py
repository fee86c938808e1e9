"""Compute some layers by formulas whose second derivative is correct, exists or is cheap.

Torch's kernel for weight normalization has a wrong second derivative, and its fused attention has
none. The second derivatives of batch normalization, layer normalization and GELU read the
activations several times more often than needed. Inside `twice_differentiable` formulas of equal
value replace these layers.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import Parameter, functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from corridor import _torch
from corridor.geometry.formulas.batch_norm import batch_norm
from corridor.geometry.formulas.layer_norm import layer_norm


@contextmanager
def twice_differentiable(*, renormalize: bool = True) -> Iterator[None]:
    """Inside the block, replace the layers above by their formulas.

    Calls from Python use the formulas. Attention that is called from C++ uses torch's plain path.
    """
    # nn.Transformer calls attention from C++.
    with sdpa_kernel(SDPBackend.MATH), _Formulas(renormalize):
        yield


class _Formulas(TorchFunctionMode):
    def __init__(self, renormalize: bool) -> None:
        super().__init__()
        self.renormalize = renormalize

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not self.renormalize and func in EMBEDDINGS:
            kwargs = {**kwargs, "max_norm": None}
        formula = _formula(func)
        if formula is not None and all(map(_is_plain, args)):
            found = formula(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return func(*args, **(kwargs or {}))


def _formula(func: Any) -> Any:
    """Return the formula of a layer; in forward mode only one that torch composes."""
    composed = COMPOSED.get(func)
    return composed if composed or _torch.forward_mode_is_on() else BY_HAND.get(func)


def _is_plain(argument: Any) -> bool:
    """Return False for nested tensors, subclasses and tensors in torch.func: torch has rules."""
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
    """Compute ``softmax(scale q k^T) v``, or return NotImplemented with a mask or dropout.

    Arguments are those of ``torch.nn.functional.scaled_dot_product_attention``.
    """
    if attn_mask is not None or dropout_p > 0.0 or enable_gqa or query.dim() < 3:
        return NotImplemented
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        shape = scores.shape[-2:]
        scores = scores + scores.new_full(shape, float("-inf")).triu_(1)
    return scores.softmax(-1) @ value


def gelu(input: Tensor, *, approximate: str = "none") -> Any:
    """Compute ``x Phi(x)`` with its second derivative, ``(2 - x^2) phi(x)``, in closed form."""
    if input.dtype not in (torch.float32, torch.float64) or approximate != "none":
        return NotImplemented
    return _Gelu.apply(input)


class _Gelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        return torch.ops.aten.gelu(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _GeluBackward.apply(dy, *ctx.saved_tensors)


class _GeluBackward(Function):
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


COMPOSED: dict[Any, Any] = {
    _torch.weight_norm: weight_norm,
    functional.scaled_dot_product_attention: attention,
}
EMBEDDINGS = (functional.embedding, functional.embedding_bag)
# These have derivatives written by hand, for two backward passes and no forward mode.
BY_HAND: dict[Any, Any] = {
    functional.batch_norm: batch_norm,
    functional.layer_norm: layer_norm,
    functional.gelu: gelu,
}

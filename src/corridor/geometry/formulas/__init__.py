"""Compute some layers by formulas whose second derivative is correct, exists or is cheap.

Torch's kernel for weight normalization has a wrong second derivative, and its fused attention has
none. The second derivatives of batch normalization, layer normalization and GELU read the
activations several times more often than needed. Inside `Formulas`, equal formulas replace them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from torch.overrides import TorchFunctionMode

from corridor import _torch
from corridor.geometry.formulas.by_hand import batch_norm, gelu, layer_norm


class Formulas(TorchFunctionMode):
    """Replace the layers above in the block; without `renormalize`, embeddings keep their rows."""

    def __init__(self, renormalize: bool) -> None:
        super().__init__()
        self.renormalize = renormalize

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in EMBEDDINGS and not self.renormalize:
            kwargs = {**kwargs, "max_norm": None}
        formula = _formula(func)
        if formula and all(map(_is_plain, (*args, *kwargs.values()))):
            found = formula(*args, **kwargs)
            if found is not NotImplemented:
                return found
        return func(*args, **kwargs)


def _formula(func: Any) -> Any:
    """Return the formula of a layer; in forward mode only one that torch composes."""
    formula = COMPOSED.get(func) or (None if _torch.forward_mode_is_on() else BY_HAND.get(func))
    # A checkpoint runs its layers again, outside of the block. They are torch's both times.
    return None if formula and _torch.saved_tensors_have_hooks() else formula


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
    """Compute ``softmax(scale q k^T) v``, or return NotImplemented with a mask or dropout."""
    if attn_mask is not None or dropout_p > 0.0 or enable_gqa or query.dim() < 3:
        return NotImplemented
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        shape = scores.shape[-2:]
        scores = scores + scores.new_full(shape, float("-inf")).triu_(1)
    return scores.softmax(-1) @ value


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

"""Layers in a form that can be differentiated twice: rightly, at all, or at a fair price.

Torch's kernel for weight normalisation has a wrong second derivative, its fused attention has
none, and those of batch and layer normalisation and GELU take several times the passes over the
activations that they need.
Inside `twice_differentiable` these layers are computed by formulas of the same value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from corridor.geometry.formulas.batch_norm import batch_norm
from corridor.geometry.formulas.gelu import gelu
from corridor.geometry.formulas.layer_norm import layer_norm


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Inside, Python's calls of the layers above go to the formulas; C++'s attention to its own."""
    with sdpa_kernel(SDPBackend.MATH), _Formulas():
        yield


class _Formulas(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        formula = FORMULAS.get(func)
        if formula is not None and all(map(_plain, args)):
            found = formula(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return func(*args, **(kwargs or {}))


def _plain(argument: Any) -> bool:
    """Whether it is an ordinary tensor or none; others have rules of their own."""
    if not isinstance(argument, Tensor):
        return True
    ordinary = type(argument) in (Tensor, Parameter) and argument.device.type in ("cpu", "cuda")
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(argument)  # pyright: ignore
    return ordinary and not argument.is_nested and not wrapped


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``softmax(scale q k^T) v``; with a mask or dropout, torch's own plain path serves."""
    if attn_mask is not None or dropout_p > 0.0 or enable_gqa or query.dim() < 3:
        return NotImplemented
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        shape = scores.shape[-2:]
        scores = scores + scores.new_full(shape, float("-inf")).triu_(1)
    return scores.softmax(-1) @ value


FORMULAS: dict[Any, Any] = {
    torch._weight_norm: _weight_norm,  # pyright: ignore[reportPrivateImportUsage]
    functional.scaled_dot_product_attention: _attention,
    functional.batch_norm: batch_norm,
    functional.layer_norm: layer_norm,
    functional.gelu: gelu,
}

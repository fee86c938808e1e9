"""How the loss reaches the optimizer: given to `step`, returned by a closure, or seen in backward.

A watched loss is counted by a hook on the tensor itself. During backward the hook receives
``d(root)/d(loss)``, so that adding ``loss * d(root)/d(loss)`` gives exactly the loss whose gradient
lies in ``.grad``: the mean over micro-batches under accumulation, the scaled loss under a scaler.
"""

from __future__ import annotations

import numbers
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from corridor.optim.base import PolyakOptimizer

_MARK = "_corridor_watchers"


def as_scalar(loss: Any) -> Tensor:
    """The loss as a detached 0-dim real tensor; one line of ValueError where it is none."""
    if isinstance(loss, numbers.Real):
        return torch.tensor(float(loss), dtype=torch.float64)
    if not isinstance(loss, Tensor):
        raise ValueError(
            f"loss must be a scalar tensor or a number, got {type(loss).__name__}; "
            "return the loss from the closure or pass step(loss=...)"
        )
    if loss.numel() != 1 or loss.is_complex():
        raise ValueError(
            f"loss must be one real number, got {loss.dtype} of shape {tuple(loss.shape)}; "
            "reduce it first, for example by .mean()"
        )
    return loss.detach().reshape(())


class PendingLoss:
    """The loss gathered by hooks since the last step, in the units it was differentiated in."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything gathered."""
        self.plain: Tensor | None = None
        self.scaled: Tensor | None = None

    def __bool__(self) -> bool:
        return self.plain is not None or self.scaled is not None

    def add(self, loss: Tensor, weight: Tensor, scaler: Any) -> None:
        """Count ``weight * loss``; a given scaler's current scale is divided out."""
        wide = torch.promote_types(loss.dtype, torch.float32)
        part = loss.to(wide) * weight.detach().reshape(()).to(wide)
        if scaler is None:
            self.scaled = part if self.scaled is None else self.scaled + part
        else:
            part = part / scaler.scale(torch.ones_like(part))
            self.plain = part if self.plain is None else self.plain + part

    def take(self, grad_scale: Tensor | None) -> Tensor:
        """The gathered loss, ``grad_scale`` divided out of what a scaler had multiplied."""
        parts = [] if self.plain is None else [self.plain]
        if self.scaled is not None:
            scaled = self.scaled
            parts.append(scaled if grad_scale is None else scaled / grad_scale.to(scaled.device))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def watch(pending: PendingLoss, loss: Tensor, scaler: Any = None) -> Tensor:
    """Hook the loss so that `pending` counts it when it is differentiated; returns it."""
    value = as_scalar(loss)
    if not loss.requires_grad:
        return loss
    watchers = getattr(loss, _MARK, ())
    if any(ref() is pending for ref in watchers):
        raise ValueError(
            "this loss is watched already, and would count twice: "
            "use either attach(model) or watch(loss), once"
        )
    setattr(loss, _MARK, (*watchers, weakref.ref(pending)))
    loss.register_hook(lambda weight: pending.add(value, weight, scaler))
    return loss


def find_loss(output: Any) -> Tensor | None:
    """The differentiable scalar in a model's output: itself, ``.loss``, ``["loss"]`` or first."""
    if isinstance(output, Mapping):
        output = output.get("loss")
    elif isinstance(output, (tuple, list)):
        output = output[0] if output else None
    elif not isinstance(output, Tensor):
        output = getattr(output, "loss", None)
    if isinstance(output, Tensor) and output.numel() == 1 and output.requires_grad:
        return output
    return None


class AttachedWatch:
    """Forward hook of `attach`: watches the loss in the output of a model.

    Copies and pickles of the model carry an inert hook, since their losses are not this
    optimizer's.
    """

    def __init__(self, optimizer: PolyakOptimizer | None = None, scaler: Any = None) -> None:
        self.optimizer = None if optimizer is None else weakref.ref(optimizer)
        self.scaler = scaler

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        """Watch the loss of a forward pass that records gradients."""
        optimizer = None if self.optimizer is None else self.optimizer()
        loss = find_loss(output) if torch.is_grad_enabled() else None
        if optimizer is not None and loss is not None:
            optimizer.watch(loss, scaler=self.scaler)

    def __reduce__(self) -> tuple[type[AttachedWatch], tuple[()]]:
        return AttachedWatch, ()

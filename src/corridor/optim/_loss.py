"""Bring the loss to the optimizer: from `step`, from a closure, or from the backward pass.

A hook on a watched loss counts it. During backward the hook receives ``d(root)/d(loss)``. The sum
of ``loss * d(root)/d(loss)`` is exactly the loss whose gradient is in ``.grad``: the mean over
micro-batches under accumulation, and the scaled loss under a GradScaler.
"""

from __future__ import annotations

import functools
import numbers
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.utils.hooks import unserializable_hook
from torch.utils.weak import WeakTensorKeyDictionary

from corridor import _torch, _tree

if TYPE_CHECKING:
    from corridor.optim.base import PolyakOptimizer


def as_scalar(loss: Any) -> Tensor:
    """Return the loss as a detached 0-dim tensor, or raise ValueError."""
    if isinstance(loss, numbers.Real):
        return torch.tensor(float(loss), dtype=torch.float64, device="cpu")
    if not isinstance(loss, Tensor):
        raise ValueError(
            f"loss must be a scalar tensor or a number, got {type(loss).__name__}; "
            "return the loss from the closure or pass step(loss=...)"
        )
    return _tree.scalar_loss(loss).detach()


class Watched(NamedTuple):
    """Record a watched loss that was differentiated since the last step.

    Attributes:
        loss: 0-dim, at least float32.
        weight: 0-dim, ``d(root)/d(loss)``, divided by the scale of a given GradScaler.
        scaled: True if the weight still contains the scale of a GradScaler.
        measured: what the optimizer's limits measured on the graph, by name, 0-dim.
    """

    loss: Tensor
    weight: Tensor
    scaled: bool
    measured: dict[str, Tensor]

    @classmethod
    def by(cls, weight: Tensor, loss: Tensor, scaler: Any, measured: dict[str, Tensor]) -> Watched:
        """Return the record of a loss that was differentiated with a weight."""
        wide = torch.promote_types(loss.dtype, torch.float32)
        weight = weight.detach().reshape(()).to(wide)
        if scaler is not None:
            weight = weight / scaler.scale(torch.ones_like(weight))
        return cls(loss.to(wide), weight, scaler is None, measured)

    def unscaled(self, grad_scale: Tensor | None) -> Watched:
        """Return the record with the weight divided by ``grad_scale``, if it contains it."""
        if grad_scale is None or not self.scaled:
            return self
        return self._replace(weight=self.weight / grad_scale.to(self.weight.device))


def total(terms: list[Tensor]) -> Tensor:
    """Return the sum of 0-dim tensors. A single one is returned bit for bit."""
    return functools.reduce(torch.add, terms)


def find_loss(output: Any) -> Tensor | None:
    """Return the differentiable scalar in a model's output, or None.

    It is the output itself, ``output["loss"]``, ``output.loss`` or the first entry of a tuple.
    """
    if isinstance(output, Tensor):
        named, loss = False, output
    elif isinstance(output, Mapping):
        named, loss = True, output.get("loss")
    elif hasattr(output, "loss"):
        named, loss = True, output.loss
    else:
        named, loss = False, output[0] if isinstance(output, (tuple, list)) and output else None
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return None
    # A tensor [1] or [1, 1] without a name can be a prediction.
    return loss if loss.dim() == 0 or (named and loss.numel() == 1) else None


def accumulates(params: Iterable[Tensor]) -> bool:
    """Return True if the current backward pass adds to ``.grad``; ``autograd.grad`` does not.

    If no parameter is a leaf of the graph (sharded, or inside a reentrant checkpoint), this cannot
    be seen and the result is True.
    """
    for p in params:
        if not (p.requires_grad and p.is_leaf):
            continue
        try:
            if _torch.will_engine_execute_node(get_gradient_edge(p).node):
                return True
        except RuntimeError:  # raised for a leaf that autograd.grad was asked for
            return False
    return True


class AttachedWatch:
    """Watch the loss in the output of a model, as a forward hook.

    Copies and pickles of the model carry a hook that does nothing, because their losses do not
    belong to this optimizer.
    """

    def __init__(self, optimizer: PolyakOptimizer | None = None, scaler: Any = None) -> None:
        self.optimizer = None if optimizer is None else weakref.ref(optimizer)
        self.scaler = scaler

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        """Watch the loss of a forward pass that records gradients."""
        optimizer = None if self.optimizer is None else self.optimizer()
        loss = find_loss(output)
        if optimizer is None or loss is None or _torch.is_functorch_wrapped(loss):
            return
        optimizer.watch(loss, scaler=self.scaler)

    def __reduce__(self) -> tuple[type[AttachedWatch], tuple[()]]:
        return AttachedWatch, ()


class LossChannel:
    """Collect the loss of one step of an optimizer, which is held weakly.

    `pending` holds the watched losses that were differentiated since the last step.
    """

    def __init__(self, optimizer: PolyakOptimizer) -> None:
        self.optimizer = weakref.ref(optimizer)
        self.pending: list[Watched] = []
        self._seen = WeakTensorKeyDictionary()

    def watch(
        self, loss: Tensor, scaler: Any, measure: Callable[[Tensor], dict[str, Tensor]]
    ) -> None:
        """Hook a loss, so that its backward pass adds a record to `pending`.

        ``measure`` is called with the loss if no other loss of this step was differentiated yet.
        """
        if not isinstance(loss, Tensor):
            raise ValueError(
                f"loss must be a tensor, got {type(loss).__name__}; watch it before .item()"
            )
        value = as_scalar(loss).clone()  # the loss may be changed in place after this
        if not loss.requires_grad:
            return
        if loss in self._seen:
            raise ValueError(
                "loss must be watched once, got a loss that is watched already; "
                "use either attach(model) or watch(loss)"
            )
        self._seen[loss] = True
        measured = {} if self.pending else measure(loss)
        channel = weakref.ref(self)

        @unserializable_hook
        def count(weight: Tensor) -> None:
            counting = channel()
            optimizer = None if counting is None else counting.optimizer()
            if counting is None or optimizer is None:
                return
            if accumulates(p for group in optimizer.param_groups for p in group["params"]):
                counting.pending.append(Watched.by(weight, value, scaler, measured))

        loss.register_hook(count)

    def take(
        self, closure: Callable[[], Any] | None, loss: Any
    ) -> tuple[Any, Tensor | None, list[Watched]]:
        """Return the result of `step`, the loss (None for no step), and its watched parts.

        The channel is empty afterwards.
        """
        given = loss
        try:
            if closure is not None:
                given = _run(closure, loss)
            explicit = closure is None and loss is not None
            return given, *self._resolve(given, explicit)
        finally:
            self.pending.clear()

    def _resolve(self, given: Any, explicit: bool) -> tuple[Tensor | None, list[Watched]]:
        optimizer = self.optimizer()
        if self.pending:
            if explicit:
                raise ValueError(
                    "loss must come once, got it by watch or attach and by step(loss=); drop one"
                )
            grad_scale = self._scale(optimizer)
            watched = [one.unscaled(grad_scale) for one in self.pending]
            return total([one.loss * one.weight for one in watched]), watched
        if given is not None:
            return as_scalar(given), []
        assert optimizer is not None
        if all(float(group["lr"]) == 0.0 for group in optimizer.param_groups):
            # Checkpointing tools call step() once with every rate 0 to make an optimizer's state.
            return None, []
        raise ValueError(
            "no loss reached the optimizer; call step(loss=loss), step(closure), or "
            "watch(loss) before backward (attach(model) for trainers)"
        )

    def _scale(self, optimizer: PolyakOptimizer | None) -> Tensor | None:
        """Return the scale that is still in the gradients."""
        grad_scale = getattr(optimizer, "grad_scale", None)
        scaling = getattr(optimizer, "found_inf", None) is not None
        if scaling and grad_scale is None and any(one.scaled for one in self.pending):
            raise ValueError(
                "scaler must be known for a watched loss whose gradients were unscaled before the "
                "step; use watch(loss, scaler=scaler) or attach(model, scaler=scaler)"
            )
        return grad_scale


def _run(closure: Callable[[], Any], loss: Any) -> Any:
    if loss is not None:
        raise ValueError("loss must come once, got it by closure and by loss=; drop one")
    if not callable(closure):
        raise ValueError(
            f"closure must be callable, got {type(closure).__name__}; "
            "pass a loss as step(loss=loss)"
        )
    with torch.enable_grad():
        return closure()

"""How the loss reaches the optimizer: given to `step`, returned by a closure, or seen in backward.

A watched loss is counted by a hook on the tensor itself. During backward the hook receives
``d(root)/d(loss)``, so that adding ``loss * d(root)/d(loss)`` gives exactly the loss whose gradient
lies in ``.grad``: the mean over micro-batches under accumulation, the scaled loss under a scaler.
"""

from __future__ import annotations

import functools
import numbers
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle, unserializable_hook
from torch.utils.weak import WeakTensorKeyDictionary

from corridor._types import Params


def as_scalar(loss: Any) -> Tensor:
    """The loss as a detached 0-dim real tensor; one line of ValueError where it is none."""
    if isinstance(loss, numbers.Real):
        return torch.tensor(float(loss), dtype=torch.float64, device="cpu")
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


class Watched(NamedTuple):
    """A watched loss that was differentiated since the last step.

    Attributes:
        loss: 0-dim, at least float32.
        weight: 0-dim, ``d(root)/d(loss)``, a given scaler's scale divided out.
        scaled: whether the scale of a scaler that unscales at the step is still in the weight.
        measured: what the optimizer measured on the loss's graph, if anything.
    """

    loss: Tensor
    weight: Tensor
    scaled: bool
    measured: Tensor | None

    @classmethod
    def by(cls, weight: Tensor, loss: Tensor, scaler: Any, measured: Tensor | None) -> Watched:
        """The record of a loss differentiated with a weight, under a scaler or None."""
        wide = torch.promote_types(loss.dtype, torch.float32)
        weight = weight.detach().reshape(()).to(wide)
        if scaler is not None:
            weight = weight / scaler.scale(torch.ones_like(weight))
        return cls(loss.to(wide), weight, scaler is None, measured)

    def unscaled(self, grad_scale: Tensor | None) -> Watched:
        """The same with ``grad_scale`` divided out, if it is still in."""
        if grad_scale is None or not self.scaled:
            return self
        return self._replace(weight=self.weight / grad_scale.to(self.weight.device))


def total(terms: list[Tensor]) -> Tensor:
    """The sum of 0-dim tensors, a single one to the last bit."""
    return functools.reduce(torch.add, terms)


def find_loss(output: Any) -> Tensor | None:
    """The differentiable scalar in a model's output: itself, ``["loss"]``, ``.loss`` or first."""
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
    # A bare [1] or [1, 1] may as well be one prediction.
    return loss if loss.dim() == 0 or (named and loss.numel() == 1) else None


def accumulates(params: Iterable[Tensor]) -> bool:
    """Whether the backward pass under way adds to ``.grad``; ``autograd.grad`` does not.

    Where no parameter is a leaf of the graph (sharded, or inside a reentrant checkpoint) that
    cannot be seen, and the pass is taken for one that does.
    """
    for p in params:
        if not (p.requires_grad and p.is_leaf):
            continue
        try:
            if torch._C._will_engine_execute_node(get_gradient_edge(p).node):
                return True
        except RuntimeError:  # raised for a leaf that autograd.grad was asked for
            return False
    return True


class AttachedWatch:
    """Forward hook of `attach`: watches the loss in the output of a model.

    Copies and pickles of the model carry an inert hook, since their losses are not this
    optimizer's.
    """

    def __init__(self, optimizer: LossChannels | None = None, scaler: Any = None) -> None:
        self.optimizer = None if optimizer is None else weakref.ref(optimizer)
        self.scaler = scaler

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        """Watch the loss of a forward pass that records gradients."""
        optimizer = None if self.optimizer is None else self.optimizer()
        loss = find_loss(output)
        if optimizer is None or loss is None or _is_transformed(loss):
            return
        optimizer.watch(loss, scaler=self.scaler)

    def __reduce__(self) -> tuple[type[AttachedWatch], tuple[()]]:
        return AttachedWatch, ()


def _is_transformed(loss: Tensor) -> bool:
    """Whether torch.func made the tensor; its transforms leave ``.grad`` alone."""
    return torch._C._functorch.is_functorch_wrapped_tensor(loss)  # pyright: ignore


class LossChannels(Optimizer):
    """The ways a loss reaches an optimizer; a subclass's `step` calls `_take_loss`."""

    # GradScaler then hands over its scale and verdict instead of unscaling by itself, so that a
    # watched loss, scaled as the gradients are, can be brought back to its own units.
    _step_supports_amp_scaling = True

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self._pending: list[Watched] = []
        self._seen = WeakTensorKeyDictionary()
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not hasattr(self, "_pending"):  # unpickled or copied
            self._pending, self._seen = [], WeakTensorKeyDictionary()
        super().__setstate__(state)

    def watch(self, loss: Tensor, scaler: Any = None) -> Tensor:
        """Watch a loss before its backward pass; the next `step` uses it.

        Several watched losses add up by their weight in what is differentiated, as gradients do:
        with ``(loss / k).backward()`` over k micro-batches the step sees their mean. Only passes
        that add to ``.grad`` count: not ``autograd.grad``, and no loss that is never
        differentiated. `step` and this optimizer's `zero_grad` clear what was watched; clearing
        gradients behind its back, as ``model.zero_grad()`` does, leaves it.

        Args:
            loss: scalar tensor.
            scaler: the run's GradScaler, needed where it unscales gradients before the step.

        Returns:
            The same loss, so that ``opt.watch(loss).backward()`` reads well.

        Raises:
            ValueError: the loss is not one real number, or is watched already.

        Example:
            >>> from corridor import CLR
            >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
            >>> opt = CLR([x], max_lr=float("inf"))
            >>> opt.watch(x.norm()).backward()
            >>> opt.step()
            >>> bool(x.norm() < 1e-6)
            True
        """
        if not isinstance(loss, Tensor):
            raise ValueError(f"expected a loss tensor to watch, got {type(loss).__name__}")
        value = as_scalar(loss).clone()  # the loss may be changed in place after this
        if not loss.requires_grad:
            return loss
        if loss in self._seen:
            raise ValueError(
                "this loss is watched already, and would count twice: "
                "use either attach(model) or watch(loss), once"
            )
        self._seen[loss] = True
        optimizer, measured = weakref.ref(self), self._measure(loss)

        @unserializable_hook
        def count(weight: Tensor) -> None:
            counting = optimizer()
            if counting is not None and accumulates(counting._leaves()):
                counting._pending.append(Watched.by(weight, value, scaler, measured))

        loss.register_hook(count)
        return loss

    def _measure(self, loss: Tensor) -> Tensor | None:
        """What the step needs to know of a watched loss's graph, 0-dim; None for nothing."""

    def _leaves(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def attach(self, model: torch.nn.Module, scaler: Any = None) -> RemovableHandle:
        """Watch the loss in every output of a model: for trainers that call a bare ``step()``.

        Args:
            model: returns a scalar loss, or an object with ``.loss``, ``["loss"]``, or a tuple
                that begins with it.
            scaler: as for `watch`.

        Returns:
            A handle; its ``remove()`` ends the watching.
        """
        return model.register_forward_hook(AttachedWatch(self, scaler))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and with them the loss that was watched."""
        self._pending.clear()
        super().zero_grad(set_to_none)

    def _take_loss(
        self, closure: Callable[[], Any] | None, loss: Any
    ) -> tuple[Any, Tensor | None, list[Watched]]:
        """What `step` is to return, the loss, and what was watched of it, which is used up."""
        given = loss
        try:
            if closure is not None:
                given = self._run(closure, loss)
            explicit = closure is None and loss is not None
            return given, *self._resolve(given, explicit)
        finally:
            self._pending.clear()

    def _run(self, closure: Callable[[], Any], loss: Any) -> Any:
        if loss is not None:
            raise ValueError("the loss came twice, by closure and by loss=: give one of them")
        if not callable(closure):
            raise ValueError(
                f"expected a closure, got {type(closure).__name__}; pass a loss as step(loss=loss)"
            )
        with torch.enable_grad():
            return closure()

    def _resolve(self, given: Any, explicit: bool) -> tuple[Tensor | None, list[Watched]]:
        """The loss of this step, 0-dim, from wherever it came; None if there is to be no step."""
        if self._pending:
            if explicit:
                raise ValueError(
                    "the loss came twice, by watch or attach and by step(loss=): drop one of them"
                )
            grad_scale = self._watched_scale()
            watched = [one.unscaled(grad_scale) for one in self._pending]
            return total([one.loss * one.weight for one in watched]), watched
        if given is not None:
            return as_scalar(given), []
        if all(float(group["lr"]) == 0.0 for group in self.param_groups):
            # Checkpointing tools call step() once with every rate 0 to make an optimizer's state.
            return None, []
        raise ValueError(
            "no loss reached the optimizer: call step(loss=loss), step(closure), or "
            "watch(loss) before backward (attach(model) for trainers)"
        )

    def _watched_scale(self) -> Tensor | None:
        grad_scale = getattr(self, "grad_scale", None)
        scaling = getattr(self, "found_inf", None) is not None
        if scaling and grad_scale is None and any(one.scaled for one in self._pending):
            raise ValueError(
                "a GradScaler unscaled the gradients before step and the watched loss is still "
                "scaled: use watch(loss, scaler=scaler) or attach(model, scaler=scaler)"
            )
        return grad_scale

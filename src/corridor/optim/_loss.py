"""Bring the loss to the optimizer: from `step`, from a closure, or from the backward pass.

A hook on a watched loss receives ``d(root)/d(loss)`` during backward. The sum of
``loss * d(root)/d(loss)`` is the loss whose gradient is in ``.grad``, if the root is a weighted sum
of watched losses: the mean over micro-batches under accumulation, and the scaled loss under a
GradScaler. A loss counts once a pass has ended that changed a ``.grad`` of the optimizer, and it is
forgotten with that gradient.
"""

from __future__ import annotations

import functools
import numbers
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.hooks import unserializable_hook
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from corridor import _reduce, _torch, _tree
from corridor.optim._trace import Trace, stamp, with_grad

if TYPE_CHECKING:
    from corridor.optim.base import PolyakOptimizer

SHARED = (
    "two optimizers watch this loss, and each takes the step that would reduce all of it to "
    "f_star; make their parameters groups of one optimizer, or lower their scale or caps"
)
ONCE = "loss must come once, got it by {} and by {}; drop one"
_WATCHING: Any = WeakTensorKeyDictionary()  # the channels that watch a loss


def as_scalar(loss: Any) -> Tensor:
    """Return the loss as a detached 0-dim tensor, or raise ValueError."""
    if isinstance(loss, numbers.Real):
        return torch.tensor(float(loss), dtype=torch.float64, device="cpu")
    return _tree.scalar_loss(loss).detach()


class Watched(NamedTuple):
    """Record a watched loss that was differentiated since the last step."""

    loss: Tensor  # 0-dim, at least float32
    weight: Tensor  # 0-dim, d(root)/d(loss), divided by the scale of a given GradScaler
    scaler: Any  # the given GradScaler, or None: the weight may contain the scale of another one
    measured: dict[str, Tensor]  # by the optimizer's limits on the graph, 0-dim
    reached: list[Tensor]  # parameters whose .grad contains its gradient; empty: FSDP holds it

    def reaching(self, reached: list[Tensor]) -> Watched:
        """Return the record at the end of its pass. Under vmap the weight has no value before."""
        weight = self.weight.detach().reshape(()).to(self.loss.dtype)
        if self.scaler is not None:
            weight = weight / self.scaler.scale(torch.ones_like(weight))
        return self._replace(weight=weight, reached=reached)

    def unscaled(self, grad_scale: Tensor | None) -> Watched:
        """Return the record with the weight divided by ``grad_scale``, if it contains it."""
        if grad_scale is None or self.scaler is not None:
            return self
        return self._replace(weight=self.weight / grad_scale.to(self.weight.device))

    def unless(self, zeroed: Tensor) -> Watched:
        """Return the record, with loss and weight 0 if its gradient was set to 0."""
        zeroed = zeroed.to(self.loss.device)
        loss, weight = (torch.where(zeroed, torch.zeros_like(t), t) for t in self[:2])
        return self._replace(loss=loss, weight=weight)


def find_loss(output: Any) -> Tensor | None:
    """Return the differentiable scalar in a model's output, or None."""
    named = isinstance(output, Mapping) or hasattr(output, "loss")
    if named:
        loss = output.get("loss") if isinstance(output, Mapping) else output.loss
    else:
        loss = output[0] if isinstance(output, (tuple, list)) and output else output
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return None
    # A tensor [1] or [1, 1] without a name can be a prediction.
    return loss if loss.dim() == 0 or (named and loss.numel() == 1) else None


def _reaches_shards(node: Any, params: list[Tensor]) -> bool:
    """Return True if the current pass adds to the gradient of an FSDP parameter."""
    # Without gradient synchronization FSDP keeps that gradient beside ``.grad``. The graph below a
    # node then ends in the whole parameters that FSDP gathered.
    shapes = {p.shape for p in params if _reduce.is_sharded(p)}
    stack, known = [node] if shapes else [], {node}
    while stack:
        node = stack.pop()
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, torch.nn.Parameter) and leaf.shape in shapes:
            try:
                if _torch.will_engine_execute_node(node):
                    return True
            except RuntimeError:  # raised for a leaf that autograd.grad was asked for
                return False
        below = {n for n, _ in node.next_functions if n is not None} - known
        known |= below
        stack += below
    return False


class AttachedWatch:
    """Watch the loss in a model's output, as a forward hook. Copies of the model watch nothing."""

    def __init__(self, optimizer: PolyakOptimizer | None = None, scaler: Any = None) -> None:
        self.optimizer = None if optimizer is None else weakref.ref(optimizer)
        self.scaler = scaler

    @_torch.disable_dynamo  # a compiled model runs its hooks outside of its graph then
    def __call__(self, module: Any, args: Any, output: Any) -> None:
        """Watch the loss of a forward pass that records gradients and belongs to the training."""
        optimizer = None if self.optimizer is None else self.optimizer()
        if optimizer is None or _tree.MEASURING.get():
            return
        loss = find_loss(output)
        if loss is not None and not _torch.is_functorch_wrapped(loss):
            optimizer.watch(loss, scaler=self.scaler)

    def __reduce__(self) -> tuple[type[AttachedWatch], tuple[()]]:
        return AttachedWatch, ()


class LossChannel:
    """Collect the loss of one step of an optimizer, which is held weakly."""

    def __init__(self, optimizer: PolyakOptimizer) -> None:
        self.optimizer = weakref.ref(optimizer)
        self.pending: list[Watched] = []  # losses whose gradients are in ``.grad``
        self._missed = False  # a watched loss was differentiated and changed no ``.grad``
        self._dropped = False  # losses of this step were forgotten
        self._traces: list[Trace] = []  # of the gradients that hold the pending losses
        self._followed = WeakTensorKeyDictionary()  # parameters that have a hook of this channel

    def watch(
        self, loss: Tensor, scaler: Any, measure: Callable[[Tensor], dict[str, Tensor]] | None
    ) -> None:
        """Hook a loss, and measure the first of a step, so that backward adds it to `pending`."""
        if not isinstance(loss, Tensor):
            raise ValueError(
                f"loss must be a tensor, got {type(loss).__name__}; watch it before .item()"
            )
        wide = torch.promote_types(loss.dtype, torch.float32)
        value = as_scalar(loss).to(wide, copy=True)  # the loss may be changed in place after this
        if not loss.requires_grad:
            return
        watching = _WATCHING.setdefault(loss, weakref.WeakSet())
        if self in watching:
            either = "use either attach(model) or watch(loss)"
            raise ValueError(
                "loss must be watched once, got a loss that is watched already; "
                + ("watch loss.clone() where the loss is a parameter" if loss.is_leaf else either)
            )
        if watching:
            warnings.warn(SHARED, stacklevel=4)
        watching.add(self)
        if measure is not None:
            self._forget(read=True)
        measured = measure(loss) if measure and not self.pending else {}
        channel = weakref.ref(self)

        @unserializable_hook
        def count(weight: Tensor) -> None:
            counting = channel()
            optimizer = None if counting is None else counting.optimizer()
            if counting is not None and optimizer is not None:
                record = Watched(value, weight, scaler, measured, [])
                counting._count_after_pass(record, optimizer._params())

        loss.register_hook(count)

    @torch.no_grad()
    def _count_after_pass(self, record: Watched, params: list[Tensor]) -> None:
        """Add a record when the current backward pass has ended, if it changed a ``.grad``."""
        if torch.compiler.is_compiling():  # compiled autograd drops the callbacks of a hook
            self.pending.append(record.reaching([]))
            return
        self._forget()
        before, node = [stamp(p) for p in params], _torch.current_node()

        @torch.no_grad()
        def end() -> None:
            rows = zip(params, before, map(stamp, params), strict=True)
            reached = [
                p for p, (g, v), (new, w) in rows if new is not None and (new is not g or v != w)
            ]
            if reached:
                known = (trace.reached for trace in self._traces)
                reached = next((t for t in known if [*map(id, t)] == [*map(id, reached)]), reached)
                # FSDP has now brought the gradients that it held.
                old = (one._replace(reached=one.reached or reached) for one in self.pending)
                self.pending = [*old, record.reaching(reached)]
                self._follow()
            elif _reaches_shards(node, params):
                self.pending.append(record.reaching([]))
            else:
                self._missed = True

        # DDP and FSDP complete the gradients in callbacks that they queue after this one.
        _torch.after_backward(lambda: _torch.after_backward(end))

    def _follow(self) -> None:
        """Follow the gradients that hold the pending losses, also through unwatched passes."""
        lists = {id(one.reached): one.reached for one in self.pending}.values()
        self._traces = [Trace(reached) for reached in lists if with_grad(reached)]
        channel = weakref.ref(self)

        def look(p: TensorWeakRef, grad: Tensor) -> None:
            counting = channel()
            with torch.no_grad():
                for trace in [] if counting is None else counting._traces:
                    trace.look(p())

        for p in (p for trace in self._traces for p in trace.params if p not in self._followed):
            hook = unserializable_hook(functools.partial(look, TensorWeakRef(p)))
            self._followed[p] = weakref.finalize(self, p.register_hook(hook).remove)

    def _forget(self, read: bool = False, stepping: bool = False) -> None:
        """Drop the records whose gradient was cleared, also if a later pass has written another.

        A verdict that only a device has is read with ``read`` or where limits have measured, which
        waits for the device. Otherwise the device sets loss and weight to 0. ``stepping`` keeps
        gradients that seem unchanged, because a step without a gradient moves nothing.
        """
        held = [one for one in self.pending if not one.reached or with_grad(one.reached)]
        self._dropped |= len(held) < len(self.pending)
        self.pending[:] = held
        if torch.compiler.is_compiling():
            return
        if stepping and self._dropped and self._traces and all(t.replaced() for t in self._traces):
            self.pending.clear()  # set by hand, from several passes of which one is left
        if stepping and len(self._traces) == 1 and self._traces[0].untouched():
            return
        self._traces = [trace for trace in self._traces if with_grad(trace.reached)]
        for trace in self._traces:
            lost = trace.lost()
            rows = [(one, one.reached is trace.reached) for one in self.pending]
            if not (lost.is_cpu or read or any(one.measured for one in self.pending)):
                self.pending[:] = [one.unless(lost) if mine else one for one, mine in rows]
            elif lost:
                self._dropped, self.pending[:] = True, [one for one, mine in rows if not mine]

    def take(
        self, closure: Callable[[], Any] | None, loss: Any
    ) -> tuple[Any, Tensor | None, list[Watched]]:
        """Return the result of `step`, the loss (None for no step), and its watched parts."""
        given = loss
        try:
            if closure is not None:
                if loss is not None:
                    raise ValueError(ONCE.format("closure", "loss="))
                if not callable(closure):
                    raise ValueError(
                        f"closure must be callable, got {type(closure).__name__}; "
                        "pass a loss as step(loss=loss)"
                    )
                self._forget(stepping=True)
                with torch.enable_grad():
                    given = closure()
            self._forget(read=given is not None, stepping=True)
            return given, *self._resolve(given, closure is None and loss is not None)
        finally:
            self.clear()

    def clear(self, within: bool = False) -> None:
        """Forget all watched losses, at the end of a step or ``within`` one."""
        self._dropped = within and (self._dropped or bool(self.pending))
        self.pending.clear()
        self._traces, self._missed = [], False

    def _resolve(self, given: Any, explicit: bool) -> tuple[Tensor | None, list[Watched]]:
        optimizer = self.optimizer()
        if self.pending:
            if explicit:
                raise ValueError(ONCE.format("watch or attach", "step(loss=)"))
            grad_scale = getattr(optimizer, "grad_scale", None)
            unscaled = grad_scale is None and getattr(optimizer, "found_inf", None) is not None
            if unscaled and any(one.scaler is None for one in self.pending):
                raise ValueError(
                    "scaler must be known for a watched loss whose gradients were unscaled before "
                    "the step; use watch(loss, scaler=scaler) or attach(model, scaler=scaler)"
                )
            watched = [one.unscaled(grad_scale) for one in self.pending]
            return torch.stack([one.loss * one.weight for one in watched]).sum(), watched
        if given is not None:
            return as_scalar(given), []
        assert optimizer is not None
        if all(float(group["lr"]) == 0.0 for group in optimizer.param_groups):
            # Checkpointing tools call step() once with every rate 0 to make an optimizer's state.
            return None, []
        if self._missed:
            raise ValueError(
                "watched losses must change a .grad of this optimizer, got a backward pass that "
                "changed no .grad; give the optimizer the parameters of the loss, and let "
                "no hook clear a .grad"
            )
        raise ValueError(
            "no loss reached the optimizer; call step(loss=loss), step(closure), or "
            "watch(loss) before backward (attach(model) for trainers)"
        )

"""Evaluate a closure any number of times without a lasting effect.

A closure changes running means, draws random numbers and may fill ``.grad``. It may also rewrite
parameters: ``Embedding(max_norm=)`` shortens the rows that it uses. Each evaluation starts from the
state at entry, so dropout masks and buffers are equal every time.
"""

from __future__ import annotations

import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules import module as torch_module
from torch.utils.weak import WeakTensorKeyDictionary

from corridor import _torch, _tree
from corridor._types import LossClosure, Params, Tensors
from corridor.geometry._inputs import check_function, loss_with_graph, parameters
from corridor.geometry._nodes import nodes, rounding
from corridor.geometry.formulas import Formulas, ThirdDerivativeError


class Untouched(AbstractContextManager["Untouched"]):
    """Restore parameters, random state, ``.grad``, buffers and modes at the end of a block.

    Attributes:
        params: the parameters that require a gradient. All internal lists have this order.
        renormalize: False if ``Embedding(max_norm=)`` must leave the moved rows as they are.
        by_hand: True until a closure computes derivatives itself. Formulas by hand have only two.
        eps: relative rounding error in the graph of the loss, 0 before the first evaluation.
        notes: remarks of an engine on the accuracy of its result.
    """

    def __init__(
        self, params: Params | nn.Module, *, across_ranks: bool = False, check: bool | None = None
    ) -> None:
        self.given, self.across_ranks, self.check = parameters(params), across_ranks, check
        self.params = [p for p in self.given if p.requires_grad]
        self.model = params if isinstance(params, nn.Module) else None
        self.modules = _SeenModules()
        self.closure_failed = False
        self.eps = 0.0
        self.move: Callable[[], None] | None = None
        self.renormalize = self.by_hand = True
        self.notes: list[str] = []

    def __enter__(self) -> Untouched:
        self.leaves = [p for p in self.params if p.is_leaf]
        self.grads = [p.grad for p in self.leaves]
        self.random = _generators(self.params[0].device)
        for p in self.params:
            self.modules.keep(p)
        if self.model is not None:
            self.modules.see(self.model, ())
        _set_grads(self.leaves, [None] * len(self.leaves))
        self.hooks = [
            torch_module.register_module_forward_pre_hook(self.modules.see),
            torch_module.register_module_buffer_registration_hook(self.modules.replaces),
        ]
        self.measuring = _tree.MEASURING.set(True)
        return self

    def __exit__(self, *_: object) -> None:
        _tree.MEASURING.reset(self.measuring)
        for hook in self.hooks:
            hook.remove()
        self.rewind()
        _set_grads(self.leaves, self.grads)

    def rewind(self) -> None:
        """Restore the state at entry. Parameters that are moved return to where they moved."""
        for put, state in self.random:
            put(state)
        self.modules.restore()
        if self.move is not None:
            self.move()
        else:
            for p, value in self.modules.weights.items():
                p.data.copy_(value)

    def evaluate(self, closure: LossClosure) -> Tensor:
        """Return the loss of the closure with its graph, computed from the state at entry."""
        check_function("closure", closure, "lambda: loss_fn(model(x), y)")
        if self.eps:
            self.rewind()
        torch.clear_autocast_cache()  # it may hold copies of parameters that have moved since
        self.closure_failed, loss = True, None
        with torch.enable_grad(), self.layers(), suppress(ThirdDerivativeError):
            value = closure()
            self.closure_failed = False
            if any(p.grad is not None for p in self.leaves):
                raise ValueError(
                    "closure must not call backward, got filled gradients; compute the loss only"
                )
            loss = loss_with_graph(value)
        names = set() if loss is None else {node.name() for node in nodes(loss)}
        if "torch::autograd::Error" in names:  # autograd.grad would pass it in silence
            raise ValueError(
                "closure must be differentiable, got the derivative of a function that is "
                "once_differentiable; remove this mark"
            )
        if loss is None or (self.by_hand and any("BackwardBackward" in name for name in names)):
            self.by_hand, loss, value = False, None, None
            self.rewind()
            return self.evaluate(closure)
        self.eps = self.eps or rounding(nodes(loss))
        return loss

    @contextmanager
    def layers(self) -> Iterator[None]:
        """Run layers as formulas and modules uncompiled, also where a checkpoint repeats layers."""
        with ExitStack() as stack:
            if "torch._dynamo" in sys.modules:  # a compiled module has imported it
                stack.enter_context(torch.compiler.set_stance("force_eager"))
                stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are gl")
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # nn.Transformer calls it from C++
            stack.enter_context(Formulas(self.renormalize, self.by_hand))
            yield

    @contextmanager
    def moving(
        self, direction: Tensors, *, step: bool = False
    ) -> Iterator[Callable[[float | Tensor], None]]:
        """Yield a function that moves parameters by a length times v; restore them at the end."""
        starts = {p: p.data.clone() for p in self.modules.weights}
        along = dict(zip(self.params, direction, strict=True))
        length = 0.0

        def again() -> None:
            for p, start in starts.items():
                v = along.get(p) if length else None
                # Writing to .data does not change the version that autograd compares.
                p.data.copy_(start if v is None else start + length * v)

        def to(new: float | Tensor) -> None:
            nonlocal length
            length = float(new)  # wait for the device once, not per tensor
            again()

        self.move, self.renormalize = again, step
        try:
            yield to
        finally:
            self.move, self.renormalize = None, True
            to(0.0)

    def whole(self, tensors: Tensors) -> list[Tensor]:
        """Return one tensor per given parameter, with zeros for those that are frozen."""
        rest = iter(tensors)
        return [next(rest) if p.requires_grad else torch.zeros_like(p) for p in self.given]

    def backward(self, loss: Tensor, params: Tensors) -> tuple[Tensor | None, ...]:
        """Return gradients of `params` by ``loss.backward()``, and leave no ``.grad`` behind."""
        parts = (p for m in self.modules.modes for p in m._parameters.values() if p is not None)
        others = list(dict.fromkeys(parts))
        kept = [p.grad for p in others]
        _set_grads(others, [None] * len(others))
        loss.backward()
        found = tuple(p.grad for p in params)
        _set_grads(others, kept)
        _set_grads(self.leaves, [None] * len(self.leaves))
        return found


def _set_grads(params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> None:
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad


class _SeenModules:
    """Keep parameters, buffers and modes of all modules that run, as before their first run."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.weights: dict[Tensor, Tensor] = {}
        self.modes: dict[nn.Module, bool] = {}
        self.reducing: list[tuple[nn.Module, dict[str, Any]]] = []
        self.buffers = WeakTensorKeyDictionary()
        self.replaced: list[tuple[nn.Module, str, Tensor | None, Any]] = []

    def see(self, module: nn.Module, args: Any) -> None:
        """Keep the state of a module and its parts. This is a forward pre-hook of all modules."""
        if _torch.DDP_STATE[0] in vars(module):  # the evaluation must not count as a step
            kept = {name: vars(module)[name] for name in _torch.DDP_STATE if name in vars(module)}
            self.reducing.append((module, kept))
            vars(module)[_torch.DDP_STATE[0]] = False
            if _torch.DDP_STATE[2] in kept:
                vars(module)[_torch.DDP_STATE[2]] = True
        if threading.get_ident() != self.thread:
            return
        for part in (module,) if module in self.modes else module.modules():
            for buffer in part._buffers.values():
                if not (buffer is None or buffer.is_inference() or buffer in self.buffers):
                    self.buffers[buffer] = buffer.detach().clone()
            if part in self.modes:
                continue
            self.modes[part] = part.training
            for p in part._parameters.values():
                if p is not None and p.is_leaf:
                    self.keep(p, rewritten=getattr(part, "max_norm", None) is not None)

    def replaces(self, module: nn.Module, name: str, buffer: Any) -> None:
        """Keep a buffer that a module replaces. This is a hook of all modules."""
        if threading.get_ident() == self.thread and name in module._buffers:
            self.replaced.append((module, name, module._buffers[name], buffer))

    def keep(self, p: Tensor, *, rewritten: bool = False) -> None:
        """Keep the numbers of a parameter; of a frozen parameter only if a layer rewrites it."""
        if (p.requires_grad or rewritten) and p not in self.weights:
            self.weights[p] = p.data.clone()

    def restore(self) -> None:
        """Restore all modules. Graphs that use a buffer from before the guard stay usable."""
        for module, training in self.modes.items():
            module.training = training
        while self.reducing:
            module, kept = self.reducing.pop()  # the first state of a module comes last
            vars(module).update(kept)
        while self.replaced:
            module, name, old, new = self.replaced.pop()
            if module._buffers.get(name) is new:
                module._buffers[name] = old
        for buffer, value in self.buffers.items():
            with torch.no_grad(), _torch.preserve_version(buffer):
                buffer.copy_(value)


def _generators(device: torch.device) -> list[tuple[Callable[[Any], None], Any]]:
    """Return the random states of torch, Python and NumPy, each after the function that sets it."""
    found: list[Any] = [(torch.set_rng_state, torch.get_rng_state())]
    found.append((random.setstate, random.getstate()))
    if accelerator := None if device.type == "cpu" else getattr(torch, device.type, None):
        place = {} if device.type == "mps" else {"device": device}  # torch.mps takes no device
        put = partial(accelerator.set_rng_state, **place)
        found.append((put, accelerator.get_rng_state(**place)))
    if numpy := sys.modules.get("numpy.random"):  # not loaded means not used
        found.append((numpy.set_state, numpy.get_state()))
    return found

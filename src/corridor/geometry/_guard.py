"""Leaves what it evaluates as it found it, and evaluates the same function every time.

A closure that is called for its derivatives moves running means, draws random numbers and may fill
``.grad``. Inside the guard every evaluation starts from the state at entry, so that two of them see
the same dropout masks and buffers, and that state is there again at exit. Modules make themselves
known by their first forward pass: no list of them is asked for.
"""

from __future__ import annotations

import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter as unchanged_version
from torch.nn.modules.module import register_module_forward_pre_hook

from corridor._types import Tensors
from corridor.geometry._inputs import scalar_loss
from corridor.geometry.formulas import twice_differentiable

Closure = Callable[[], Any]


class Untouched(AbstractContextManager["Untouched"]):
    """Random state, ``.grad``, buffers and modes are after the block what they were before it.

    Args:
        params: whose ``.grad`` is kept; it is None inside.
        across_ranks: whether losses and derivatives are averaged over a process group.

    Attributes:
        closure_failed: whether the closure raised when it was last evaluated.
    """

    def __init__(self, params: Tensors, *, across_ranks: bool = False) -> None:
        self.params, self.across_ranks = params, across_ranks
        self.modules = _SeenModules()
        self.closure_failed = False
        self.moved = False

    def __enter__(self) -> Untouched:
        self.grads = [p.grad for p in self.params if p.is_leaf]
        self.random = _RandomState(self.params[0].device)
        self._set_grads([None] * len(self.grads))
        self.hook = register_module_forward_pre_hook(self.modules.see)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()
        self.rewind()
        self._set_grads(self.grads)

    def rewind(self) -> None:
        """Random state, buffers and modes as they were at entry."""
        self.random.restore()
        self.modules.restore()

    def _set_grads(self, grads: list[Tensor | None]) -> None:
        leaves = (p for p in self.params if p.is_leaf)
        for p, grad in zip(leaves, grads, strict=True):
            p.grad = grad

    def evaluate(self, closure: Closure) -> Tensor:
        """The closure's loss with its graph, from the state at entry."""
        if self.moved:
            self.rewind()
        self.moved = True
        torch.clear_autocast_cache()  # it may hold copies of parameters that were moved
        self.closure_failed = True
        with torch.enable_grad(), _measurable():
            value = closure()
            self.closure_failed = False
            if any(p.grad is not None for p in self.params if p.is_leaf):
                raise ValueError(
                    "the closure called backward, which used up the loss's graph; "
                    "let it compute the loss only, forward"
                )
            return scalar_loss(value)

    def backward(self, loss: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the parameters by ``backward``, which leaves no ``.grad`` behind."""
        others = {
            p: p.grad for m in self.modules.modes for p in m._parameters.values() if p is not None
        }
        for p in others:
            p.grad = None
        loss.backward()
        found = tuple(p.grad for p in self.params if p.requires_grad)
        for p, grad in others.items():
            p.grad = grad
        self._set_grads([None] * len(self.grads))
        return found


class _SeenModules:
    """Buffers and modes of every module that has run, as they were before its first run."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.modes: dict[nn.Module, bool] = {}
        self.buffers: list[tuple[nn.Module, str, Tensor, Tensor]] = []

    def see(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook of all modules."""
        if module in self.modes or threading.get_ident() != self.thread:
            return
        for part in module.modules():
            if part in self.modes:
                continue
            self.modes[part] = part.training
            for name, buffer in part._buffers.items():
                if buffer is not None and not buffer.is_inference():
                    self.buffers.append((part, name, buffer, buffer.detach().clone()))

    def restore(self) -> None:
        """Put everything back; graphs that hold a buffer from before stay usable."""
        for module, training in self.modes.items():
            module.training = training
        for module, name, buffer, value in self.buffers:
            module._buffers[name] = buffer
            with torch.no_grad(), unchanged_version(buffer):
                buffer.copy_(value)


class _RandomState:
    """The random number generators of torch, Python and, where it is loaded, NumPy."""

    def __init__(self, device: torch.device) -> None:
        self.accelerator: Any = getattr(torch, device.type, None) if device.type != "cpu" else None
        self.place = () if device.type == "mps" else (device,)
        self.numpy = sys.modules.get("numpy.random")
        self.cpu, self.python = torch.get_rng_state(), random.getstate()
        self.other = self.accelerator.get_rng_state(*self.place) if self.accelerator else None
        self.legacy = self.numpy.get_state() if self.numpy else None

    def restore(self) -> None:
        """Set all generators back."""
        torch.set_rng_state(self.cpu)
        random.setstate(self.python)
        if self.accelerator:
            self.accelerator.set_rng_state(self.other, *self.place)
        if self.numpy:
            self.numpy.set_state(self.legacy)


@contextmanager
def _measurable() -> Iterator[None]:
    """Layers by formulas that differentiate twice, and compiled modules run eagerly."""
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # else nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global")
        stack.enter_context(twice_differentiable())
        yield

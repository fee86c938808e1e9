"""An entrant: an optimizer with its settings, and how it takes a step.

Each file of ``entrants/`` defines ``entrant = Entrant(...)``.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from benchmarks.practice import entrants
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import LambdaLR

WARMUP = 0.05  # share of the steps, for every schedule that has a warm-up
Made = tuple[Any, Any]  # an optimizer, and its scheduler or None


class OptimizerError(RuntimeError):
    """The optimizer raised an exception during a step, which counts as its failure."""


@dataclass(frozen=True)
class Entrant:
    """One optimizer as its authors advise.

    Attributes:
        name: equals the name of its file.
        label: its name in tables and pictures.
        family: "yardstick", "tuned", "rival", "paper" (by our reading of a paper), "ours" or
            "trial" (forms that are being tried).
        make: returns optimizer and scheduler from the network, the number of steps, the rate (None
            without rates) and the lower bound of the loss (None if unknown).
        rates: rates from low to high; None if nothing is tuned (default: None).
        choice: "best" if the rate is tuned for each problem, "one" if one rate is calibrated for
            all (default: "best").
        loss: how it gets the loss: "no", "step" for ``step(loss=)``, or "watch" (default: "no").
        order: place in the order of runs, 0 first (default: 2).
        package: module that has to be installed (default: "").
        twice: True if it differentiates the loss twice. Attention is then computed in plain
            operations, as torch's fused kernels have no second derivative (default: False).
        about: source of the settings, and what is uncertain about them.
    """

    name: str
    label: str
    family: str
    make: Callable[[nn.Module, int, float | None, float | None], Made]
    rates: tuple[float, ...] | None = None
    choice: str = "best"
    loss: str = "no"
    order: int = 2
    package: str = ""
    twice: bool = False
    about: str = ""


def names() -> list[str]:
    """Return the names of all entrants."""
    return sorted(module.name for module in pkgutil.iter_modules(entrants.__path__))


def load(name: str) -> Entrant:
    """Return one entrant.

    Raises:
        ValueError: the name is unknown, or its file defines another entrant.
    """
    if name not in names():
        raise ValueError(f"entrant must be one of {', '.join(names())}, got {name!r}")
    found = import_module(f"benchmarks.practice.entrants.{name}").entrant
    if found.name != name:
        raise ValueError(f"entrant.name must be {name!r} as its file, got {found.name!r}")
    return found


def rival(module: str, name: str) -> Any:
    """Return a class of another package, which only runs need.

    Raises:
        SystemExit: the package is not installed.
    """
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise SystemExit(f'{name} is not installed: pip install -e ".[rivals]"') from error


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are trained."""
    return [p for p in model.parameters() if p.requires_grad]


def warmup_cosine(optimizer: Any, steps: int, warmup: float = WARMUP) -> LambdaLR:
    """Return a linear warm-up over a share of the steps, then a cosine to zero.

    Args:
        optimizer: whose rates are scaled.
        steps: number of steps of the run.
        warmup: share of the steps (default: 0.05).
    """
    return LambdaLR(optimizer, lambda step: cosine_factor(step, steps, round(warmup * steps)))


def cosine_factor(step: int, steps: int, warmup: int) -> float:
    """Return the factor on the rate at a step, from 0."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.5 * (1 + math.cos(math.pi * done))


def take_step(entrant: Entrant, made: Made, loss: Tensor) -> None:
    """Run backward and one step of optimizer and scheduler.

    Raises:
        OptimizerError: the optimizer raised an exception.
    """
    optimizer, scheduler = made
    try:
        if entrant.loss == "watch":
            loss = optimizer.watch(loss)
        loss.backward()
        if entrant.loss == "step":
            optimizer.step(loss=loss.detach())
        else:
            optimizer.step()
    except Exception as error:
        raise OptimizerError(f"{type(error).__name__}: {error}") from error
    if scheduler is not None:
        scheduler.step()


def kernels(entrant: Entrant) -> AbstractContextManager[None]:
    """Return the context in which the loss is computed."""
    return sdpa_kernel(SDPBackend.MATH) if entrant.twice else nullcontext()


def begin(made: Made) -> None:
    """Switch an optimizer that has train() to its training weights."""
    if hasattr(made[0], "train"):
        made[0].train()


@contextmanager
def averaged(made: Made) -> Iterator[bool]:
    """Switch a schedule-free optimizer to its average for a validation, then back.

    Yields:
        True if the weights are an average.
    """
    switches = hasattr(made[0], "eval")
    if switches:
        made[0].eval()
    try:
        yield switches
    finally:
        if switches:
            made[0].train()


def zeros(params: list[nn.Parameter]) -> list[Tensor]:
    """Return a zero tensor for each parameter."""
    return [torch.zeros_like(p) for p in params]


def copies(params: list[nn.Parameter]) -> list[Tensor]:
    """Return a copy of each parameter."""
    return [p.detach().clone() for p in params]

"""A problem: the parts of one run, made from a seed.

Each file of ``development/`` and ``held_out/`` defines ``problem = Problem(...)``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

HALVES = ("development", "held_out")


@dataclass(frozen=True)
class Task:
    """The parts of one run, made again for each run.

    Attributes:
        model: network, its weights a function of the seed alone.
        batches: endless training batches, a function of the seed alone. They do not depend on the
            global generator, so that all optimizers get the same.
        loss: returns the scalar training loss of a batch, a mean over the batch.
        validate: returns ``{"loss": ...}`` and optionally ``"accuracy"``, in eval mode without
            gradients. The loss is positive and finite for a healthy network; lower is better. It
            always uses the same examples and leaves the network in the mode it found.
    """

    model: nn.Module
    batches: Iterator[Any]
    loss: Callable[[nn.Module, Any], Tensor]
    validate: Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        name: equals the name of its file.
        kind: what it stands for, in two or three words. No kind is in one half alone.
        steps: number of steps of a run.
        batch_size: number of examples of a batch.
        make: returns the parts of a run from its seed.
        f_star: lower bound of the training loss; None where none is known (default: 0).
        about: one line: data, network, and why it stands for its kind.
        long: True if it is also run at 4 times the steps (default: False).
    """

    name: str
    kind: str
    steps: int
    batch_size: int
    make: Callable[[int], Task]
    f_star: float | None = 0.0
    about: str = ""
    long: bool = False


def names(half: str) -> list[str]:
    """Return the names of a half's problems, without importing them.

    Args:
        half: "development" or "held_out".
    """
    package = import_module(f"benchmarks.practice.{half}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def load(half: str, name: str) -> Problem:
    """Return one problem of a half.

    Args:
        half: "development" or "held_out".
        name: name of its file.

    Raises:
        ValueError: the name is unknown in this half, or its file defines another problem.
    """
    known = names(half)
    if name not in known:
        raise ValueError(f"problem must be one of {', '.join(known)}, got {name!r}")
    problem = import_module(f"benchmarks.practice.{half}.{name}").problem
    if problem.name != name:
        raise ValueError(f"problem.name must be {name!r} as its file, got {problem.name!r}")
    return problem

"""The optimizers: who takes part, with which settings, and how each takes a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from corridor import CLR, CLRAdam
from corridor.optim import MoMo, MoMoAdam, SPSSafe


class Entry(NamedTuple):
    """One optimizer.

    Attributes:
        make: from a network's parameters.
        kind: "tuned" for the sweep of SGD, "rival", or "ours".
        loss: how it learns the loss: "no", "step" for ``step(loss=)``, "watch".
    """

    make: Callable[[Any], Any]
    kind: str
    loss: str = "no"


def _by(module: str, name: str, **options: Any) -> Callable[[Any], Any]:
    """What makes an optimizer of another package, which only runs need."""

    def make(params: Any) -> Any:
        try:
            return getattr(import_module(module), name)(params, **options)
        except ImportError as error:
            raise SystemExit(f'{name} is not installed: pip install -e ".[rivals]"') from error

    return make


RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
TUNED: dict[str, Entry] = {
    f"SGD momentum {rate:g}": Entry(
        lambda p, rate=rate: torch.optim.SGD(p, lr=rate, momentum=0.9), "tuned"
    )
    for rate in RATES
}
# As their authors recommend where nothing is known of the problem.
RIVALS: dict[str, Entry] = {
    "MoMo": Entry(lambda p: MoMo(p, max_lr=1.0), "rival", "step"),
    "MoMo-Adam": Entry(lambda p: MoMoAdam(p, max_lr=1e-2), "rival", "step"),
    "SPS-safe": Entry(lambda p: SPSSafe(p, floor=1.0), "rival", "step"),
    "Prodigy": Entry(_by("prodigyopt", "Prodigy", lr=1.0), "rival"),
    "DoG": Entry(_by("dog", "DoG"), "rival"),
    "D-Adaptation Adam": Entry(_by("dadaptation", "DAdaptAdam", lr=1.0), "rival"),
    "schedule-free SGD": Entry(_by("schedulefree", "SGDScheduleFree", lr=1.0), "rival"),
    "schedule-free AdamW": Entry(_by("schedulefree", "AdamWScheduleFree", lr=2.5e-3), "rival"),
    "AdamW": Entry(lambda p: torch.optim.AdamW(p, lr=1e-3), "rival"),
    "Lion": Entry(_by("lion_pytorch", "Lion", lr=1e-4), "rival"),
}
OURS: dict[str, Entry] = {
    "CLR": Entry(lambda p: CLR(p), "ours", "step"),
    "CLR, momentum": Entry(lambda p: CLR(p, momentum=0.9), "ours", "step"),
    "CLR, no cap": Entry(lambda p: CLR(p, max_lr=math.inf), "ours", "step"),
    "CLR, drift 1": Entry(lambda p: CLR(p, drift=1.0), "ours", "watch"),
    "CLR, momentum, drift 1": Entry(lambda p: CLR(p, momentum=0.9, drift=1.0), "ours", "watch"),
    "CLR-Adam": Entry(lambda p: CLRAdam(p), "ours", "watch"),
}
# Forms among which the default was chosen, on the development half and the choice problems.
CHOICES: dict[str, Entry] = {
    f"CLR-Adam, drift {tau:g}": Entry(lambda p, tau=tau: CLRAdam(p, drift=tau), "choice", "watch")
    for tau in (1.0, 2.0, 4.0)
} | {"CLR-Adam, every 10": Entry(lambda p: CLRAdam(p, every=10), "choice", "watch")}
OPTIMIZERS: dict[str, Entry] = {**TUNED, **RIVALS, **OURS}


def take_step(entry: Entry, opt: Any, loss: Tensor) -> None:
    """Backward and step, the loss handed over as the optimizer wants it."""
    if entry.loss == "watch":
        opt.watch(loss).backward()
        opt.step()
        return
    loss.backward()
    if entry.loss == "step":
        opt.step(loss=loss.detach())
    else:
        opt.step()


def start(opt: Any) -> None:
    """Schedule-free optimizers are told that training begins; others have no such method."""
    if hasattr(opt, "train"):
        opt.train()


def finish(opt: Any) -> None:
    """Schedule-free optimizers put their average in place for the test."""
    if hasattr(opt, "eval"):
        opt.eval()

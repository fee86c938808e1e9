"""Measure the geometry of the loss during a run."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from corridor.geometry import Measures, Probe
from corridor.optim.base import PolyakOptimizer
from corridor.train.config import Config

# Every line of the metrics has these, for the same batch at the same point.
KNOWN = frozenset({"step", "loss", "grad_norm"})


def make(
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    config: Config,
    across_ranks: bool = False,
) -> Probe | None:
    """Return the probe that a config asks for; None if it asks for none."""
    if not config.probe:
        return None
    return Probe(
        parameters,
        every=config.probe,
        f_star=config.f_star,
        step=next_step(optimizer),
        curvature=config.probe_curvature,
        across_ranks=across_ranks,
    )


def next_step(optimizer: torch.optim.Optimizer) -> Callable[[Measures], float] | None:
    """Return a function from the measures of a batch to the optimizer's next step size.

    Return None if the step does not go along the gradient, as with momentum and with optimizers
    other than SGD and CLR's family. Return None also if drift limits the step, because the drift is
    measured later.
    """
    group = optimizer.param_groups[0]
    if group.get("momentum", 1.0) != 0.0 or group.get("drift") is not None:
        return None
    if isinstance(optimizer, torch.optim.SGD):
        return lambda measures: float(group["lr"])
    if not isinstance(optimizer, PolyakOptimizer):
        return None
    return lambda found: float(optimizer.step_size_at(found.loss, found.grad_norm.square()))


def numbers(probe: Probe, closure: Callable[[], Any], number: int) -> dict[str, float]:
    """Measure before a step, and return the entries for its line of the metrics."""
    probe.now(closure, number)
    return {k: v[-1] for k, v in probe.history.items() if k not in KNOWN}

"""The landscape under a run, measured while it trains."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from corridor.geometry import Measures, Probe
from corridor.optim.base import PolyakOptimizer
from corridor.train.config import Config

# A step's line holds these anyway, of the same batch at the same point.
KNOWN = frozenset({"step", "loss", "grad_norm"})


def make(
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    config: Config,
    across_ranks: bool = False,
) -> Probe | None:
    """The probe a config asks for; None if it asks for none."""
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
    """The step size an optimizer is about to use, from the measures of its batch.

    None where its step does not go along the gradient, with momentum and for all but CLR's family
    and SGD, and where the drift that limits it is yet to be measured.
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
    """What a step's line of the metrics gets from measuring at its point."""
    probe.now(closure, number)
    return {k: v[-1] for k, v in probe.history.items() if k not in KNOWN}

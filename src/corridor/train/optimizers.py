"""Make optimizers by name: one row per optimizer."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from corridor import optim
from corridor._reduce import is_sharded
from corridor.optim.base import PolyakOptimizer
from corridor.optim.clr import DEFAULT_MAX_LR

# Options that only some optimizers have, with the value that leaves the choice to the optimizer.
OWN = {"momentum": 0.0, "f_star": 0.0, "scale": 1.0, "drift": None}


@dataclass(frozen=True)
class Row:
    """Hold an optimizer class, its names in `OWN`, and how it gets its learning rate."""

    kind: Callable[..., torch.optim.Optimizer]
    uses: frozenset[str]
    lr: float | None
    rate: str = "max_lr"
    takes_loss: bool = True
    watches: bool = False


def _relative(kind: Callable[..., torch.optim.Optimizer], rate: str = "max_lr") -> Row:
    own = signature(kind).parameters[rate].default
    return Row(kind, frozenset({"momentum", "f_star"}), own, rate)


OPTIMIZERS: dict[str, Row] = {
    "clr": Row(optim.CLR, frozenset(OWN), DEFAULT_MAX_LR),
    "clr-adam": Row(
        optim.CLRAdam, frozenset({"momentum", "f_star", "drift"}), math.inf, watches=True
    ),
    "polyak": _relative(optim.Polyak),
    "half-polyak": _relative(optim.HalfPolyak),
    "sps-max": _relative(optim.SPSMax),
    "sps-safe": _relative(optim.SPSSafe),
    "ngn": _relative(optim.NGN, "sigma"),
    "dec-sps": _relative(optim.DecSPS),
    "ada-sps": _relative(optim.AdaSPS),
    "momo": _relative(optim.MoMo),
    "momo-adam": _relative(optim.MoMoAdam),
    "sgd": Row(torch.optim.SGD, frozenset({"momentum"}), None, "lr", takes_loss=False),
    "adamw": Row(torch.optim.AdamW, frozenset(), 1e-3, "lr", takes_loss=False),
}


def build(
    name: str, parameters: Sequence[Tensor], config: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Return an optimizer; an option with its value in `OWN` keeps the optimizer's own default."""
    row = OPTIMIZERS[name]
    given: dict[str, Any] = {
        row.rate: config["lr"],
        "weight_decay": config["weight_decay"],
        # Polyak has no default for f_star.
        **{k: config[k] for k in row.uses if config[k] != OWN[k] or k == "f_star"},
    }
    if not row.takes_loss:
        # Fused kernels do not support shards, and round 16-bit parameters badly on CPUs.
        fused = all(
            p.is_floating_point()
            and not is_sharded(p)
            and (p.device.type == "cuda" or p.dtype in (torch.float32, torch.float64))
            for p in parameters
        )
        given["fused" if fused else "foreach"] = True
    return row.kind(parameters, **given)


def schedule(optimizer: torch.optim.Optimizer, kind: str, total: int) -> LambdaLR | None:
    """Return a scheduler of the learning rate or the cap; None if it is constant."""
    if kind == "constant":
        return None
    return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / total)) / 2)


def next_step(optimizer: torch.optim.Optimizer) -> Callable[[Any], float] | None:
    """Return a function from the measures of a batch to the next step size; None without one."""
    group = optimizer.param_groups[0]
    # The step does not go along the gradient, or drift, which is measured later, limits it.
    if group.get("momentum", 1.0) != 0.0 or group.get("drift") is not None:
        return None
    if isinstance(optimizer, torch.optim.SGD):
        return lambda measures: float(group["lr"])
    if not isinstance(optimizer, PolyakOptimizer):
        return None
    return lambda found: float(optimizer.step_size_at(found.loss, found.grad_norm.square()))

"""Make optimizers by name: one row per optimizer."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from corridor._reduce import is_sharded
from corridor.optim import (
    CLR,
    NGN,
    AdaSPS,
    CLRAdam,
    DecSPS,
    HalfPolyak,
    MoMo,
    MoMoAdam,
    Polyak,
    SPSMax,
    SPSSafe,
)
from corridor.optim.base import PolyakOptimizer
from corridor.optim.clr import DEFAULT_MAX_LR

# Options that only some optimizers have, with the value that leaves the choice to the optimizer.
OPTIONS = {"momentum": 0.0, "f_star": 0.0, "scale": 1.0, "drift": None}


@dataclass(frozen=True)
class Row:
    """An optimizer class, the names in `OPTIONS` that it has, and what a config may ask of it."""

    kind: Callable[..., torch.optim.Optimizer]
    uses: frozenset[str]
    lr: float | None
    rate: str = "max_lr"
    takes_loss: bool = True
    watches: bool = False

    def validate(
        self, name: str, *, lr: float | None, schedule: str, options: Mapping[str, Any]
    ) -> None:
        """Raise a ValueError if this optimizer cannot do what a config asks."""
        for option, default in OPTIONS.items():
            if option not in self.uses and options[option] != default:
                raise ValueError(f"optimizer {name!r} has no option {option!r}")
        if lr is None:
            raise ValueError(
                f"lr must be a number for optimizer {name!r}, got None; give lr, for example 0.1"
            )
        if not lr > 0:
            raise ValueError(f"lr must be above 0, got {lr}")
        if math.isinf(lr) and not self.takes_loss:
            raise ValueError(f"lr must be finite for optimizer {name!r}, got inf")
        if math.isinf(lr) and schedule != "constant":
            raise ValueError(
                f"lr must be finite with schedule {schedule!r}, got an infinite cap; "
                "give a finite lr, or schedule 'constant'"
            )


def _relative(kind: Callable[..., torch.optim.Optimizer], rate: str = "max_lr") -> Row:
    own = signature(kind).parameters[rate].default
    return Row(kind, frozenset({"momentum", "f_star"}), own, rate)


OPTIMIZERS: dict[str, Row] = {
    "clr": Row(CLR, frozenset(OPTIONS), DEFAULT_MAX_LR),
    "clr-adam": Row(CLRAdam, frozenset({"momentum", "f_star", "drift"}), math.inf, watches=True),
    "polyak": _relative(Polyak),
    "half-polyak": _relative(HalfPolyak),
    "sps-max": _relative(SPSMax),
    "sps-safe": _relative(SPSSafe),
    "ngn": _relative(NGN, "sigma"),
    "dec-sps": _relative(DecSPS),
    "ada-sps": _relative(AdaSPS),
    "momo": _relative(MoMo),
    "momo-adam": _relative(MoMoAdam),
    "sgd": Row(torch.optim.SGD, frozenset({"momentum"}), None, "lr", takes_loss=False),
    "adamw": Row(torch.optim.AdamW, frozenset(), 1e-3, "lr", takes_loss=False),
}


def build(
    name: str,
    parameters: Sequence[Tensor],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    f_star: float = 0.0,
    scale: float = 1.0,
    drift: float | None = None,
) -> torch.optim.Optimizer:
    """Return an optimizer; an option with its value in `OPTIONS` keeps the optimizer's own default.

    >>> weights = [torch.ones(2, requires_grad=True)]
    >>> build("sgd", weights, lr=0.5).param_groups[0]["lr"]
    0.5
    """
    row = OPTIMIZERS[name]
    given = {"momentum": momentum, "f_star": f_star, "scale": scale, "drift": drift}
    # Polyak has no default for f_star.
    options: dict[str, Any] = {
        key: value
        for key, value in given.items()
        if key in row.uses and (value != OPTIONS[key] or key == "f_star")
    }
    if not row.takes_loss:
        options |= _kernels(parameters)
    return row.kind(parameters, **{row.rate: lr}, weight_decay=weight_decay, **options)


def _kernels(parameters: Sequence[Tensor]) -> dict[str, bool]:
    """Return the option for torch's fastest kernels that are correct for the parameters."""
    # Fused kernels do not support shards, and round 16-bit parameters badly on CPUs.
    fused = all(
        p.is_floating_point()
        and not is_sharded(p)
        and (p.device.type == "cuda" or p.dtype in (torch.float32, torch.float64))
        for p in parameters
    )
    return {"fused": True} if fused else {"foreach": True}


def schedule(optimizer: torch.optim.Optimizer, kind: str, total: int) -> LambdaLR | None:
    """Return a scheduler of the learning rate, or of the cap; None if it is constant.

    The factor of step k, starting at 0, is (1 + cos(pi k / total)) / 2 for ``cosine``.
    """
    if kind == "constant":
        return None
    return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / total)) / 2)


def next_step(optimizer: torch.optim.Optimizer) -> Callable[[Any], float] | None:
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

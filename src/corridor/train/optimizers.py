"""Optimizers by name: a row each."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from corridor.train.config import Config

OPTIONAL = (("momentum", 0.0), ("f_star", 0.0), ("scale", 1.0), ("drift", None))
Builder = Callable[[Sequence[Tensor], "Config"], torch.optim.Optimizer]


@dataclass(frozen=True)
class Row:
    """How one optimizer is made from a config, and what it takes.

    Attributes:
        build: Makes the optimizer for parameters and a config.
        takes_loss: Whether ``step`` is handed the loss.
        watches: Whether it always needs the graph of the loss, and so ``watch``.
        needs_lr: Whether a learning rate must be given.
        uses: Those of the options momentum, f_star, scale and drift that it knows.
        lr: Its learning rate, or cap, where the config leaves it open.
    """

    build: Builder
    takes_loss: bool = False
    watches: bool = False
    needs_lr: bool = False
    uses: frozenset[str] = frozenset()
    lr: float | None = None

    def check(self, config: "Config") -> None:
        """Raise a ValueError where the config asks for what this optimizer cannot do."""
        name, lr = config.optimizer, config.lr
        for option, default in OPTIONAL:
            if option not in self.uses and getattr(config, option) != default:
                raise ValueError(f"{option} is no option of {name}; leave it at {default}")
        if lr is None and self.needs_lr:
            raise ValueError(f"{name} needs a learning rate: give lr, for example 0.1")
        if lr is not None and not lr > 0:
            raise ValueError(f"lr must be above 0, got {lr}")
        if lr is not None and math.isinf(lr):
            if not self.takes_loss:
                raise ValueError(f"lr must be finite for {name}, got inf")
            if config.schedule != "constant":
                raise ValueError(
                    f"a {config.schedule} schedule cannot scale an infinite cap; "
                    "give a finite lr or schedule=constant"
                )


def _fast(parameters: Sequence[Tensor]) -> dict[str, Any]:
    """The quickest that is right: fused kernels know no shards, and round bf16 badly on CPUs."""
    fused = all(
        p.is_floating_point()
        and not is_sharded(p)
        and (p.device.type == "cuda" or p.dtype in (torch.float32, torch.float64))
        for p in parameters
    )
    return {"fused": True} if fused else {"foreach": True}


def _clr(parameters: Sequence[Tensor], config: "Config") -> torch.optim.Optimizer:
    return CLR(
        parameters,
        config.lr,
        f_star=config.f_star,
        scale=config.scale,
        drift=config.drift,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def _clr_adam(parameters: Sequence[Tensor], config: "Config") -> torch.optim.Optimizer:
    options: dict[str, Any] = {
        name: getattr(config, name) for name in ("momentum", "drift") if getattr(config, name)
    }
    assert config.lr is not None
    return CLRAdam(
        parameters, config.lr, f_star=config.f_star, weight_decay=config.weight_decay, **options
    )


def _relative(kind: Callable[..., PolyakOptimizer]) -> Row:
    """A relative of CLR with its own defaults for what the config leaves open."""

    def build(parameters: Sequence[Tensor], config: "Config") -> torch.optim.Optimizer:
        options: dict[str, Any] = {"f_star": config.f_star, "weight_decay": config.weight_decay}
        options["sigma" if kind is NGN else "max_lr"] = config.lr
        if config.momentum:
            options["momentum"] = config.momentum
        return kind(parameters, **options)

    own = signature(kind).parameters["sigma" if kind is NGN else "max_lr"].default
    return Row(build, takes_loss=True, uses=frozenset({"momentum", "f_star"}), lr=own)


def _sgd(parameters: Sequence[Tensor], config: "Config") -> torch.optim.Optimizer:
    assert config.lr is not None
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        **_fast(parameters),
    )


def _adamw(parameters: Sequence[Tensor], config: "Config") -> torch.optim.Optimizer:
    assert config.lr is not None
    return torch.optim.AdamW(
        parameters, lr=config.lr, weight_decay=config.weight_decay, **_fast(parameters)
    )


OPTIMIZERS: dict[str, Row] = {
    "clr": Row(
        _clr,
        takes_loss=True,
        uses=frozenset({"momentum", "f_star", "scale", "drift"}),
        lr=DEFAULT_MAX_LR,
    ),
    "clr-adam": Row(
        _clr_adam,
        takes_loss=True,
        watches=True,
        uses=frozenset({"momentum", "f_star", "drift"}),
        lr=math.inf,
    ),
    "polyak": _relative(Polyak),
    "half-polyak": _relative(HalfPolyak),
    "sps-max": _relative(SPSMax),
    "sps-safe": _relative(SPSSafe),
    "ngn": _relative(NGN),
    "dec-sps": _relative(DecSPS),
    "ada-sps": _relative(AdaSPS),
    "momo": _relative(MoMo),
    "momo-adam": _relative(MoMoAdam),
    "sgd": Row(_sgd, needs_lr=True, uses=frozenset({"momentum"})),
    "adamw": Row(_adamw, lr=1e-3),
}


def watches(config: "Config") -> bool:
    """Whether the optimizer measures drift on the graph of the loss, which it is to watch."""
    return config.drift is not None or OPTIMIZERS[config.optimizer].watches


def build(parameters: Sequence[Tensor], config: "Config") -> torch.optim.Optimizer:
    """The optimizer a config names.

    Args:
        parameters: Tensors to train.
        config: Its optimizer, lr, momentum, weight_decay, f_star, scale and drift are used.

    Example:
        >>> from corridor.train import Config
        >>> weights = [torch.ones(2, requires_grad=True)]
        >>> build(weights, Config(optimizer="sgd", lr=0.5)).param_groups[0]["lr"]
        0.5
    """
    return OPTIMIZERS[config.optimizer].build(list(parameters), config)


def schedule(optimizer: torch.optim.Optimizer, config: "Config", total: int) -> LambdaLR | None:
    """What scales the learning rate (for CLR the cap) after every step, if anything does.

    The factor of step k, counted from 0, is (1 + cos(pi k / total)) / 2 for ``cosine``.

    Args:
        optimizer: Whose groups' ``lr`` is scaled.
        config: Its schedule is used.
        total: Optimizer steps of the whole run.
    """
    if config.schedule == "constant":
        return None
    return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / total)) / 2)

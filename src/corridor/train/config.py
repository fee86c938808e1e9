"""Say what to train and how: one flat, frozen, complete record of a run."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, get_args

# These change when and where the run reads and writes, but no number of the training.
FREE_ON_RESUME = frozenset(
    {
        *("data_dir", "workers", "checkpoint_every", "keep", "tensorboard"),
        *("probe", "probe_curvature", "parallel", "timeout"),
    }
)
# These only move the end of a run, unless the schedule is stretched over it.
LENGTH = frozenset({"epochs", "steps"})

_CHOICES = {
    "schedule": ("constant", "cosine"),
    "precision": ("float32", "bfloat16"),
    "parallel": ("ddp", "fsdp"),
    "batch_norm": ("local", "synchronized"),
}
_LEAST = {
    **dict.fromkeys(("image_size", "train_limit", "width", "epochs", "steps", "batch_size"), 1),
    **dict.fromkeys(("accumulate", "keep"), 1),
    **dict.fromkeys(("workers", "eval_every", "checkpoint_every", "seed", "probe"), 0),
}


def _option(default: Any, group: str, help: str) -> Any:
    return field(default=default, metadata={"help": help, "group": group})


@dataclass(frozen=True, kw_only=True)
class Config:
    """All that decides what a training run computes.

    The fields are the options of ``corridor train``. Their meanings and defaults are in the
    metadata of the fields, and in ``corridor train --help``.

    Raises:
        ValueError: If a value has the wrong type or range, or contradicts another value.

    Example:
        >>> config = Config(data="digits", optimizer="sgd", lr=0.1)
        >>> Config.from_dict(config.to_dict()) == config
        True
    """

    data: str = _option(
        "digits",
        "Data",
        "Data set: digits, cifar10, fashion-mnist, imagenet, imagefolder:PATH, parquet:PATH or "
        "hf:NAME.",
    )
    data_dir: str | None = _option(
        None, "Data", "Folder of local copies, one subfolder per data name (or CORRIDOR_DATA)."
    )
    image_size: int | None = _option(None, "Data", "Height and width of images after resizing.")
    train_limit: int | None = _option(None, "Data", "Number of training images to use.")
    augment: bool = _option(False, "Data", "Random crops and flips of the training images.")

    model: str = _option(
        "mlp",
        "Model",
        "Network: mlp, cnn, resnet8, resnet14, resnet18, resnet50, vgg16 or "
        "package.module:callable, called with those of num_classes, in_channels, image_size and "
        "width that it accepts.",
    )
    width: int | None = _option(None, "Model", "Width of the network.")

    optimizer: str = _option(
        "clr",
        "Optimizer",
        "Optimizer: clr, clr-adam, sgd, adamw, or a relative of clr: polyak, half-polyak, sps-max, "
        "sps-safe, ngn, dec-sps, ada-sps, momo, momo-adam.",
    )
    lr: float | None = _option(
        None,
        "Optimizer",
        "Learning rate; for clr and its relatives the cap on the step size (inf: no cap, as in the "
        "paper). Default: the optimizer's own.",
    )
    momentum: float = _option(
        0.0, "Optimizer", "Momentum in [0, 1); 0 is 0.9 for clr-adam, momo and momo-adam."
    )
    weight_decay: float = _option(0.0, "Optimizer", "Weight decay.")
    f_star: float = _option(0.0, "Optimizer", "Minimum of the loss (clr and its relatives).")
    scale: float = _option(1.0, "Optimizer", "Factor on the step size (clr).")
    drift: float | None = _option(
        None,
        "Optimizer",
        "Limit of a step's relative drift from gradient flow, in place of the cap (clr, clr-adam).",
    )
    schedule: str = _option(
        "constant", "Optimizer", "constant, or cosine: the learning rate (for clr the cap) to 0."
    )

    epochs: int = _option(20, "Length", "Passes over the training images.")
    steps: int | None = _option(None, "Length", "Optimizer steps, in place of epochs.")
    batch_size: int = _option(128, "Length", "Images per optimizer step.")
    accumulate: int = _option(1, "Length", "Micro-batches per batch.")
    drop_last: bool = _option(True, "Length", "Leave out an epoch's last, smaller batch.")

    seed: int = _option(0, "Machine", "Seed of initial weights, order, augmentation and dropout.")
    device: str = _option("auto", "Machine", "auto, cpu, cuda or cuda:N.")
    precision: str = _option("float32", "Machine", "float32, or bfloat16 (autocast).")
    channels_last: bool = _option(False, "Machine", "Keep images in channels-last memory order.")
    compile: bool = _option(False, "Machine", "Compile the network with torch.compile.")
    workers: int = _option(0, "Machine", "Processes that decode images of streamed data sets.")

    parallel: str = _option(
        "ddp", "Processes", "Under torchrun: ddp, copies of the network, or fsdp, shards of it."
    )
    batch_norm: str = _option(
        "local",
        "Processes",
        "Under torchrun: local, over each process's part of a batch, or synchronized, over all.",
    )
    timeout: float = _option(
        300.0, "Processes", "Seconds to wait for another process before giving up."
    )

    eval_every: int = _option(1, "Record", "Epochs between test evaluations; 0: only at the end.")
    checkpoint_every: int = _option(
        0, "Record", "Steps between checkpoints; 0: at the end of every epoch."
    )
    keep: int = _option(2, "Record", "Checkpoints to keep.")
    tensorboard: bool = _option(False, "Record", "Write TensorBoard scalars, too.")
    probe: int = _option(0, "Record", "Steps between measurements of the geometry; 0: none.")
    probe_curvature: bool = _option(
        False, "Record", "Measure the Hessian's largest eigenvalue, too (about 17 gradients)."
    )

    def __post_init__(self) -> None:
        if self.batch_norm == "synchronised":  # the spelling of 0.1.0
            object.__setattr__(self, "batch_norm", "synchronized")
        for entry in fields(self):
            value = typed(entry.name, getattr(self, entry.name), entry.type)
            if value != value:
                raise ValueError(f"{entry.name} must be a number, got nan")
            object.__setattr__(self, entry.name, value)
            least, choices = _LEAST.get(entry.name), _CHOICES.get(entry.name)
            if least is not None and value is not None and value < least:
                raise ValueError(f"{entry.name} must be at least {least}, got {value}")
            if entry.name == "seed" and value >= 2**64:
                raise ValueError(f"seed must be below 2**64, got {value}; give a smaller number")
            if choices is not None:
                one_of(entry.name, value, choices)
        self._validate_machine()
        self._validate_optimizer()

    def _validate_machine(self) -> None:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate must divide batch_size, got accumulate={self.accumulate} and "
                f"batch_size={self.batch_size}"
            )
        if self.probe_curvature and not self.probe:
            raise ValueError("probe must be at least 1 with probe_curvature, got 0; give probe")
        if not 0 < self.timeout < 1e7:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")

    def _validate_optimizer(self) -> None:
        from corridor.train.optimizers import OPTIMIZERS  # imports torch, which --help can omit

        one_of("optimizer", self.optimizer, tuple(OPTIMIZERS))
        row = OPTIMIZERS[self.optimizer]
        for name, valid, condition in (
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "finite and at least 0"),
            ("scale", 0 < self.scale < math.inf, "finite and above 0"),
            ("f_star", math.isfinite(self.f_star), "finite"),
            ("drift", self.drift is None or self.drift > 0, "above 0"),
        ):
            if not valid:
                raise ValueError(f"{name} must be {condition}, got {getattr(self, name)}")
        if self.compile and (self.drift is not None or row.watches):
            what = f"optimizer {self.optimizer!r}" if self.drift is None else "drift"
            raise ValueError(f"compile must be False with {what}, which differentiates twice")
        if self.lr is None:  # set now: a new default must not change the meaning of old runs
            object.__setattr__(self, "lr", math.inf if self.drift is not None else row.lr)
        options = self.optimizer_options()
        row.validate(self.optimizer, lr=self.lr, schedule=self.schedule, options=options)

    def optimizer_options(self) -> dict[str, Any]:
        """Return the arguments of `corridor.train.optimizers.build`, by name."""
        names = ("lr", "momentum", "weight_decay", "f_star", "scale", "drift")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; an infinite number is the string ``"inf"``."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: str(value) if isinstance(value, float) and math.isinf(value) else value
            for name, value in plain.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Return the config that `to_dict` wrote; a missing field takes its default."""
        known = {entry.name: entry.type for entry in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(
                f"config must have known fields only, got {', '.join(unknown)}; "
                f"known are {', '.join(known)}"
            )
        numbers = {
            name: float(value)
            for name, value in values.items()
            if float in _alternatives(known[name]) and value in ("inf", "-inf", "nan")
        }
        return cls(**{**values, **numbers})


def differences(old: Config, new: Config) -> list[str]:
    """Return the names of the fields by which two configs compute different numbers.

    >>> differences(Config(), Config(keep=3, seed=1))
    ['seed']
    """
    return [
        entry.name
        for entry in fields(Config)
        if entry.name not in FREE_ON_RESUME and getattr(old, entry.name) != getattr(new, entry.name)
    ]


def _alternatives(annotation: Any) -> tuple[type, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)


def typed(name: str, value: Any, annotation: Any) -> Any:
    """Return a value as one of the annotated types; raise ValueError if it has another type."""
    types = _alternatives(annotation)
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, os.PathLike) and str in types:
        value = os.fspath(value)
    if float in types and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) not in types:
        expected = " or ".join("None" if t is type(None) else t.__name__ for t in types)
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return value


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")

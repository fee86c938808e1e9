"""What to train and how: one flat, frozen, complete record of a run."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, get_args

SCHEDULES = ("constant", "cosine")
PRECISIONS = ("float32", "bfloat16")
PARALLELS = ("ddp", "fsdp")
BATCH_NORMS = ("local", "synchronised")

# These change where and how often things are read and written, never a number of the training.
FREE_ON_RESUME = frozenset(
    {
        *("data_dir", "workers", "checkpoint_every", "keep", "tensorboard"),
        *("probe", "probe_curvature", "parallel", "timeout"),
    }
)
# These only move the end of a run, unless the schedule is stretched over it.
LENGTH = frozenset({"epochs", "steps"})


def _option(default: Any, group: str, help: str) -> Any:
    return field(default=default, metadata={"help": help, "group": group})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a training run computes.

    The fields are the options of ``corridor train``; what each means is said once, in its
    metadata, and shown by ``corridor train --help``.

    Raises:
        ValueError: If a value has the wrong type or range, or two of them contradict each other.

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
    image_size: int | None = _option(None, "Data", "Resize images to this many pixels a side.")
    train_limit: int | None = _option(None, "Data", "Use only so many training images.")
    augment: bool = _option(False, "Data", "Random crops and flips of the training images.")

    model: str = _option(
        "mlp",
        "Model",
        "Network: mlp, cnn, resnet8, resnet14, resnet18, resnet50, vgg16 or "
        "package.module:callable.",
    )
    width: int | None = _option(None, "Model", "Width of the network; its own default otherwise.")

    optimizer: str = _option(
        "clr",
        "Optimizer",
        "Optimizer: clr, clr-adam, sgd, adamw, or a relative of clr: polyak, half-polyak, sps-max, "
        "sps-safe, ngn, dec-sps, ada-sps, momo, momo-adam.",
    )
    lr: float | None = _option(
        None,
        "Optimizer",
        "Learning rate; for clr and relatives the cap on the step size (inf: no cap, as in the "
        "paper); the optimizer's own by default.",
    )
    momentum: float = _option(
        0.0, "Optimizer", "Momentum in [0, 1); of clr-adam, momo and momo-adam 0.9 where 0."
    )
    weight_decay: float = _option(0.0, "Optimizer", "Weight decay.")
    f_star: float = _option(0.0, "Optimizer", "Least value of the loss (clr and relatives).")
    scale: float = _option(1.0, "Optimizer", "Factor on the step size (clr).")
    drift: float | None = _option(
        None,
        "Optimizer",
        "Limit of a step's relative drift from gradient flow, in place of the cap (clr, clr-adam).",
    )
    schedule: str = _option(
        "constant", "Optimizer", "constant, or cosine: the learning rate (the cap, for clr) to 0."
    )

    epochs: int = _option(20, "Length", "Passes over the training images.")
    steps: int | None = _option(None, "Length", "Optimizer steps; where given, epochs is unused.")
    batch_size: int = _option(128, "Length", "Images per optimizer step.")
    accumulate: int = _option(1, "Length", "Micro-batches each batch is split into.")
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
        "Under torchrun: local, over each process's part of a batch, or synchronised, over all.",
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
    probe: int = _option(0, "Record", "Steps between measurements of the landscape; 0: none.")
    probe_curvature: bool = _option(
        False, "Record", "Measure the Hessian's largest eigenvalue, too (about 17 gradients)."
    )

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = _typed(entry.name, getattr(self, entry.name), entry.type)
            object.__setattr__(self, entry.name, value)
        self._check_sizes()
        self._check_choices()
        self._check_optimizer()

    def _check_sizes(self) -> None:
        for name in ("image_size", "train_limit", "width", "epochs", "steps", "batch_size"):
            _at_least(name, getattr(self, name), 1)
        for name in ("accumulate", "keep"):
            _at_least(name, getattr(self, name), 1)
        for name in ("workers", "eval_every", "checkpoint_every", "seed", "probe"):
            _at_least(name, getattr(self, name), 0)
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate must divide batch_size, got accumulate={self.accumulate} and "
                f"batch_size={self.batch_size}"
            )

    def _check_choices(self) -> None:
        if self.probe_curvature and not self.probe:
            raise ValueError("probe_curvature needs probe, the steps between measurements")
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("parallel", self.parallel, PARALLELS)
        _one_of("batch_norm", self.batch_norm, BATCH_NORMS)
        if not 0 < self.timeout < 1e7:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")

    def _check_optimizer(self) -> None:
        from corridor.train.optimizers import OPTIMIZERS  # brings torch, which --help can spare

        _one_of("optimizer", self.optimizer, tuple(OPTIMIZERS))
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite, at least 0, got {self.weight_decay}")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be finite, above 0, got {self.scale}")
        if math.isinf(self.f_star):
            raise ValueError(f"f_star must be finite, got {self.f_star}")
        if self.drift is not None and not self.drift > 0:
            raise ValueError(f"drift must be above 0, got {self.drift}")
        row = OPTIMIZERS[self.optimizer]
        if (self.drift is not None or row.watches) and self.compile:
            what = self.optimizer if self.drift is None else "drift"
            raise ValueError(f"{what} differentiates twice, which compile cannot; leave one out")
        if self.lr is None:  # settled now: a default that changes must not relabel old runs
            object.__setattr__(self, "lr", math.inf if self.drift is not None else row.lr)
        row.check(self)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values; an infinite number is the string ``"inf"``."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: str(value) if isinstance(value, float) and math.isinf(value) else value
            for name, value in plain.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The config that ``to_dict`` wrote; a field that is missing takes its default.

        Args:
            values: JSON values by field name.

        Raises:
            ValueError: If a name is unknown or a value is not valid.
        """
        known = {entry.name: entry.type for entry in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(
                f"unknown config field {', '.join(unknown)}; known are {', '.join(known)}"
            )
        numbers = {
            name: float(value)
            for name, value in values.items()
            if float in _alternatives(known[name]) and value in ("inf", "-inf", "nan")
        }
        return cls(**{**values, **numbers})


def differences(old: Config, new: Config) -> list[str]:
    """Names of the fields in which two configs would compute something else.

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


def _typed(name: str, value: Any, annotation: Any) -> Any:
    """The value, an int being taken where a float is expected; NaN is never right."""
    types = _alternatives(annotation)
    if float in types and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) not in types:
        expected = " or ".join("None" if t is type(None) else t.__name__ for t in types)
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name} must be a number, got nan")
    return value


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")

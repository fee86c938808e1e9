"""Define what to train and how: one flat, frozen, complete record of a run."""

import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

# These only move the end of a run, unless the schedule is stretched over it.
LENGTH = frozenset({"epochs", "steps"})
DEVICE = r"auto|cpu|cuda(:\d+)?"
OPTIONS = tomllib.loads(Path(__file__).with_name("options.toml").read_text(encoding="utf-8"))

T = TypeVar("T", bound=type)


def _described(kind: T) -> T:
    """Give the fields of a class their group and help text as metadata."""
    for group, helps in OPTIONS["help"].items():
        for name, words in helps.items():
            metadata = {"group": group, "help": words.strip()}
            setattr(kind, name, field(default=getattr(kind, name), metadata=metadata))
    return kind


@dataclass(frozen=True, kw_only=True)
@_described
class Config:
    """Hold all options of a training run.

    The fields are the options of ``corridor train``. Their meanings are in ``options.toml``, in the
    metadata of the fields and in ``corridor train --help``.

    Raises:
        ValueError: If a value has the wrong type or range, or contradicts another value.

    Example:
        >>> config = Config(data="digits", optimizer="sgd", lr=0.1)
        >>> Config.from_dict(config.to_dict()) == config
        True
    """

    data: str = "digits"
    data_dir: str | None = None
    image_size: int | None = None
    train_limit: int | None = None
    augment: bool = False

    model: str = "mlp"
    width: int | None = None

    optimizer: str = "clr"
    lr: float | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    f_star: float = 0.0
    scale: float = 1.0
    drift: float | None = None
    schedule: str = "constant"

    epochs: int = 20
    steps: int | None = None
    batch_size: int = 128
    accumulate: int = 1
    drop_last: bool = True

    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False
    workers: int = 0

    parallel: str = "ddp"
    batch_norm: str = "local"
    timeout: float = 300.0

    eval_every: int = 1
    checkpoint_every: int = 0
    keep: int = 2
    tensorboard: bool = False
    probe: int = 0
    probe_curvature: bool = False

    def __post_init__(self) -> None:
        if self.batch_norm == "synchronised":  # the spelling of 0.1.0
            object.__setattr__(self, "batch_norm", "synchronized")
        for entry in fields(self):
            name, least = entry.name, OPTIONS["least"].get(entry.name)
            value = typed(name, getattr(self, name), entry.type)
            if value != value:
                raise ValueError(f"{name} must be a number, got nan")
            if least is not None and value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
            if name in OPTIONS["choices"]:
                one_of(name, value, OPTIONS["choices"][name])
            object.__setattr__(self, name, value)
        self._validate()

    def _validate(self) -> None:
        # The import of torch, which --help can omit.
        from corridor.train.optimizers import OPTIMIZERS, OWN

        one_of("optimizer", self.optimizer, OPTIMIZERS)
        row, optimizer = OPTIMIZERS[self.optimizer], f"optimizer {self.optimizer!r}"
        for option, default in OWN.items():
            if option not in row.uses and getattr(self, option) != default:
                raise ValueError(f"{optimizer} has no option {option!r}")
        if self.lr is None:  # set now: a new default must not change the meaning of old runs
            object.__setattr__(self, "lr", row.lr if self.drift is None else math.inf)
        if self.lr is None:
            raise ValueError(f"lr must be a number for {optimizer}, got None; give lr, such as 0.1")
        if math.isinf(self.lr) and self.schedule != "constant":
            raise ValueError(
                f"lr must be finite with schedule {self.schedule!r}, got an infinite cap; "
                "give a finite lr, or schedule 'constant'"
            )
        divides = self.batch_size % self.accumulate == 0
        eager = not self.compile or (self.drift is None and not row.watches)
        twice = f"{optimizer if self.drift is None else 'drift'}, which differentiates twice"
        for name, valid, condition in (
            ("accumulate", divides, f"divide batch_size {self.batch_size}"),
            ("probe", self.probe or not self.probe_curvature, "be at least 1 with probe_curvature"),
            ("timeout", 0 < self.timeout < 1e7, "be above 0 seconds and below 1e7"),
            ("device", re.fullmatch(DEVICE, self.device), "be auto, cpu, cuda or cuda:N"),
            ("seed", self.seed < 2**64, "be below 2**64"),
            ("momentum", 0 <= self.momentum < 1, "be in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "be finite and at least 0"),
            ("scale", 0 < self.scale < math.inf, "be finite and above 0"),
            ("f_star", math.isfinite(self.f_star), "be finite"),
            ("drift", self.drift is None or self.drift > 0, "be above 0"),
            ("compile", eager, f"be False with {twice}"),
            ("lr", self.lr > 0, "be above 0"),
            ("lr", row.takes_loss or math.isfinite(self.lr), f"be finite for {optimizer}"),
        ):
            if not valid:
                raise ValueError(f"{name} must {condition}, got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; an infinite number is the string ``"inf"``."""
        infinite = (math.inf, -math.inf)
        return {k: str(v) if v in infinite else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Return the config that `to_dict` wrote; a missing field takes its default."""
        known = {entry.name: entry.type for entry in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(
                f"config must have known fields only, got {', '.join(unknown)}; "
                f"known are {', '.join(known)}"
            )
        numbers = {
            name: float(value)
            for name, value in values.items()
            if value in ("inf", "-inf", "nan") and float in _alternatives(known[name])
        }
        return cls(**{**values, **numbers})


def differences(old: Config, new: Config, *, other_length: bool = False) -> list[str]:
    """Return the fields that change the numbers; `other_length` allows a run of other length."""
    before, after = asdict(old), asdict(new)
    free = {*OPTIONS["free_on_resume"]}
    if other_length and new.schedule == "constant":
        free |= LENGTH
    return [name for name in before if name not in free and before[name] != after[name]]


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) or (annotation,)


def typed(name: str, value: Any, annotation: Any) -> Any:
    """Return a value as one of the annotated types; raise ValueError if it has another type."""
    types = _alternatives(annotation)
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, os.PathLike) and str in types:
        value = os.fspath(value)
    if float in types and type(value) is int:
        value = float(value)
    if type(value) not in types:
        expected = " or ".join("None" if t is type(None) else t.__name__ for t in types)
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return value


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise ValueError unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")

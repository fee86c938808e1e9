"""A training config times a grid of options: every combination a run."""

import itertools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from corridor.train.config import Config
from corridor.train.sweep.runs import Run

# The tables of a grid file that give variants.
VARIANTS = "variant"
SHORT = 60


def grid(options: Mapping[str, Any], variants: Sequence[Mapping[str, Any]] = ()) -> list[Run]:
    """Every combination of the options that are given as lists.

    Args:
        options: Config fields by name: a value holds for all runs, a list is an axis of the grid.
        variants: More options, each a grid of its own beside the others, for what does not go
            with everything: a learning rate with SGD alone.

    Returns:
        Runs, the last axis moving fastest; a run is named after its place on the axes.

    Raises:
        ValueError: An option is unknown, has no values, or a combination is no valid config.

    Example:
        >>> runs = grid({"seed": [0, 1]}, [{"optimizer": "clr"}, {"optimizer": "sgd", "lr": [0.1]}])
        >>> for run in runs:
        ...     print(run.name)
        optimizer-clr_seed-0
        optimizer-clr_seed-1
        optimizer-sgd_lr-0.1_seed-0
        optimizer-sgd_lr-0.1_seed-1
    """
    runs: dict[str, Run] = {}
    for variant in variants or [{}]:
        merged = {**variant, **{k: v for k, v in options.items() if k not in variant}}
        _check(merged)
        axes = {k: v if isinstance(v, list) else [v] for k, v in merged.items()}
        named = [k for k, v in merged.items() if isinstance(v, list) or k in variant]
        for values in itertools.product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            run = Run(_name({k: chosen[k] for k in named}), Config.from_dict(chosen))
            runs.setdefault(run.name, run)
            if runs[run.name].config != run.config:
                raise ValueError(f"two settings of the grid have the name {run.name}")
    return list(runs.values())


def read_grid(path: str | Path, overrides: Mapping[str, Any] | None = None) -> list[Run]:
    """The runs of a grid file: TOML, config fields at the top, ``[[variant]]`` tables below.

    Args:
        path: The file.
        overrides: Options that replace those of the file.

    Raises:
        ValueError: It is no TOML, or no grid; the message names the file.
        OSError: It cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            options = tomllib.load(file)
        variants = options.pop(VARIANTS, [])
        if not isinstance(variants, list) or not all(isinstance(v, dict) for v in variants):
            raise ValueError(f"{VARIANTS} must be tables, each under [[{VARIANTS}]]")
        given = overrides or {}
        kept = [{k: v for k, v in variant.items() if k not in given} for variant in variants]
        return grid({**options, **given}, kept)
    except ValueError as error:  # a TOMLDecodeError is one, too
        raise ValueError(f"{path}: {error}") from error


def parse_axes(words: Iterable[str]) -> dict[str, list[Any]]:
    """Axes from a command line: ``name=value,value,...``, numbers being numbers.

    Raises:
        ValueError: A word is of another form, or an axis is given twice.

    Example:
        >>> parse_axes(["optimizer=clr,sps-max", "lr=0.1,inf", "augment=true,false"])
        {'optimizer': ['clr', 'sps-max'], 'lr': [0.1, inf], 'augment': [True, False]}
    """
    axes: dict[str, list[Any]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals or not text:
            raise ValueError(f"expected name=value,value,... for an axis, got {word!r}")
        name = name.replace("-", "_")
        if name in axes:
            raise ValueError(f"{name} is an axis twice; give its values as one, {name}=...,...")
        axes[name] = [_value(part) for part in text.split(",")]
    return axes


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _check(options: Mapping[str, Any]) -> None:
    known = [entry.name for entry in fields(Config)]
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"unknown option {name}; known are {', '.join(known)}")
        if isinstance(value, list) and not value:
            raise ValueError(f"{name} has no values")


def _name(chosen: Mapping[str, Any]) -> str:
    """A folder name that tells the values."""
    parts = [f"{key}-{_plain(value)}" for key, value in chosen.items()]
    return "_".join(parts) or "run"


def _plain(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text)[-SHORT:]

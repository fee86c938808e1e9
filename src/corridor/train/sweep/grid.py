"""Make the runs of a sweep from a grid of options, and compare the settings of the grid."""

import itertools
import math
import re
import statistics
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from operator import itemgetter
from pathlib import Path
from typing import Any

from corridor.train.config import Config
from corridor.train.folder.record import Summary
from corridor.train.sweep.runs import Run

# Maximum length of a value in the name of a run, in characters.
SHORT = 60
_HEAD = ("setting", "finished", "final loss", "test accuracy")


def grid(options: Mapping[str, Any], variants: Sequence[Mapping[str, Any]] = ()) -> list[Run]:
    """Return one run per combination of the values of options that are lists.

    Args:
        options: Config fields by name. A value holds for all runs; a list is an axis of the grid.
        variants: Further options (default: none). Each variant makes a separate grid. It holds
            options that do not go with all settings, such as a learning rate for SGD alone.

    Returns:
        Runs; the value of the last axis changes first. A run is named after its values.

    Raises:
        ValueError: An option is unknown or has no values, or a combination is not a valid config.

    Example:
        >>> runs = grid({"seed": [0, 1]}, [{"optimizer": "clr"}, {"optimizer": "sgd", "lr": [0.1]}])
        >>> for run in runs:
        ...     print(run.name)
        optimizer-clr_seed-0
        optimizer-clr_seed-1
        optimizer-sgd_lr-0.1_seed-0
        optimizer-sgd_lr-0.1_seed-1
    """
    known = [entry.name for entry in fields(Config)]
    runs: dict[str, Run] = {}
    for variant in variants or [{}]:
        merged = {**variant, **{k: v for k, v in options.items() if k not in variant}}
        axes = {k: v if isinstance(v, list) else [v] for k, v in merged.items()}
        for name, values in axes.items():
            if name not in known:
                raise ValueError(f"a run has no option {name!r}; use one of {', '.join(known)}")
            if not values:
                raise ValueError(f"{name} must have values, got an empty list; leave it out")
        named = [k for k, v in merged.items() if isinstance(v, list) or k in variant]
        for values in itertools.product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            name = "_".join(f"{k}-{_plain(chosen[k])}" for k in named) or "run"
            run = Run(name, Config.from_dict(chosen))
            if runs.setdefault(run.name, run).config != run.config:
                raise ValueError(
                    f"settings of the grid must have different names, got {run.name} twice; "
                    "choose values that differ more"
                )
    return list(runs.values())


def read_grid(path: str | Path, overrides: Mapping[str, Any] | None = None) -> list[Run]:
    """Return the runs of a TOML file: config fields at the top, ``[[variant]]`` tables below."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            options = tomllib.load(file)
        variants = options.pop("variant", [])
        if not isinstance(variants, list) or not all(isinstance(v, dict) for v in variants):
            raise ValueError("variant must be tables; write each under [[variant]]")
        given = overrides or {}
        kept = [{k: v for k, v in variant.items() if k not in given} for variant in variants]
        return grid({**options, **given}, kept)
    except ValueError as error:  # a TOMLDecodeError is one, too
        raise ValueError(f"{path}: {error}") from error


def parse_axes(words: Iterable[str]) -> dict[str, list[Any]]:
    """Return the axes of a command line, ``name=value,value,...``, with the values converted.

    >>> parse_axes(["optimizer=clr,sps-max", "lr=0.1,inf", "augment=true,false"])
    {'optimizer': ['clr', 'sps-max'], 'lr': [0.1, inf], 'augment': [True, False]}
    """
    axes: dict[str, list[Any]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals or not text:
            raise ValueError(f"an axis must be name=value,value,..., got {word!r}; add the values")
        name = name.replace("-", "_")
        if name in axes:
            raise ValueError(f"{name} must be one axis, got two; write {name}=value,value,... once")
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


def _plain(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text)[-SHORT:]


def comparison(names: Sequence[str], summaries: Sequence[Summary | None]) -> list[str]:
    """Return a table of medians and ranges over the seeds that finished; empty for a single run.

    The lowest median loss comes first. For this order, a run that did not finish has loss infinity.

    >>> runs = {"lr-1_seed-0": Summary("finished", final_loss=0.5, final_test_accuracy=0.8),
    ...         "lr-1_seed-1": Summary("finished", final_loss=0.3, final_test_accuracy=0.9),
    ...         "lr-9_seed-0": Summary("diverged", final_loss=7.0)}
    >>> for line in comparison(list(runs), list(runs.values())):
    ...     print(line)
    setting  finished  final loss      test accuracy
    lr-1     2 of 2    0.4 [0.3, 0.5]  85 % [80, 90]
    lr-9     0 of 1    -               -
    """
    settings: dict[str, list[Summary | None]] = {}
    for name, summary in zip(names, summaries, strict=True):
        setting = re.sub(r"(^|_)seed-?\d+(?=_|$)", "", name).lstrip("_") or "all seeds"
        settings.setdefault(setting, []).append(summary)
    if len(names) < 2:
        return []
    rows = []
    for name, found in settings.items():
        well = [s for s in found if s is not None and s.status == "finished"]
        losses = [s.final_loss for s in well if s.final_loss is not None]
        tests = [100 * s.final_test_accuracy for s in well if s.final_test_accuracy is not None]
        count = f"{len(well)} of {len(found)}"
        cells = name, count, _over_seeds(losses, ""), _over_seeds(tests, " %")
        lost = [math.inf] * (len(found) - len(losses))
        rows.append((statistics.median([*losses, *lost]), len(lost), cells))
    cells = [_HEAD, *(cells for *_, cells in sorted(rows, key=itemgetter(0, 1)))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def _over_seeds(values: list[float], unit: str) -> str:
    if not values:
        return "-"
    spread = f" [{min(values):.3g}, {max(values):.3g}]" if len(values) > 1 else ""
    return f"{statistics.median(values):.3g}{unit}{spread}"

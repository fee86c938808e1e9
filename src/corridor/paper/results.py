"""The numbers behind a figure: gathered from runs, kept in one small file, read again to draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corridor.paper import checked, experiments
from corridor.paper.curves import Curve, read_curve
from corridor.paper.experiments import Recipe
from corridor.paper.recipes import setting_name
from corridor.train.config import Config
from corridor.train.folder.files import atomic, dumps
from corridor.train.folder.record import RunRecord, read_run
from corridor.train.sweep.runs import Run, sweep

VERSION = 1
DATA = "data.json"
DIGITS = 5
# The training loss that counts as reached, as a share of what guessing costs, ln(classes): one rule
# for every data set and scale, fixed before the runs it judges.
TARGET_SHARE = 0.01


def target_loss(classes: int) -> float:
    """A hundredth of the loss of a uniform guess, ln(classes), in two digits.

    >>> target_loss(10), target_loss(1000)
    (0.023, 0.069)
    """
    return float(f"{TARGET_SHARE * math.log(classes):.2g}")


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone.

    Attributes:
        config: that of the first.
        curves: one a seed.
    """

    config: Config
    curves: list[Curve]


@dataclass(frozen=True)
class Group:
    """Settings of one network on one data set, by name.

    Attributes:
        data: the data set's title.
        images: training images.
        parameters: of the network.
        settings: in the recipe's order.
    """

    data: str
    images: int
    parameters: int
    settings: dict[str, Setting]


@dataclass(frozen=True)
class Results:
    """All that a figure is drawn from.

    Attributes:
        figure: its number.
        scale: demo, laptop or paper.
        seeds: of every setting.
        overrides: config fields that replaced the recipes'.
        target: the training loss that counts as reached; the least of the groups'.
        failed: runs that raised or were killed, with the reason.
        environment: where the first run was made.
        groups: by name.
    """

    figure: int
    scale: str
    seeds: list[int]
    overrides: dict[str, Any]
    target: float
    failed: list[str]
    environment: dict[str, Any]
    groups: dict[str, Group]


def gather(
    out: Path,
    number: int,
    recipes: Mapping[str, Recipe],
    scale: str,
    seeds: Sequence[int],
    processes: int | None = None,
    **overrides: Any,
) -> Path:
    """Train what is missing and write the figure's numbers.

    Args:
        out: runs go to ``out/runs``, the numbers to ``out/figures/figNN/data.json``.
        number: of the figure.
        recipes: by the name of the group they make; several of a folder share runs.
        scale: demo, laptop or paper.
        seeds: seeds of every setting.
        processes: runs at a time.
        overrides: config fields that replace the recipes'.

    Returns:
        The figure's folder.

    Raises:
        ValueError: no run of a group ended well; the message tells the first reason.
    """
    groups, failed, environment, target = {}, [], {}, math.inf
    for name, recipe in recipes.items():
        runs = recipe(scale, seeds, **overrides)
        folders = sweep(runs, experiments.folder(out, recipe), processes=processes)
        group, reasons, environment, aim = _group(runs, folders)
        groups[name] = group
        failed += reasons
        target = min(target, aim)
    place = out / "figures" / f"fig{number:02d}"
    values = {
        "version": VERSION,
        "figure": number,
        "scale": scale,
        "seeds": list(seeds),
        "overrides": {k: v for k, v in overrides.items() if k != "data_dir"},
        "target": target,
        "failed": failed,
        "environment": environment,
        "groups": groups,
    }
    place.mkdir(parents=True, exist_ok=True)
    with atomic(place / DATA) as file:
        file.write(dumps(rounded(values)).encode())
    return place


def _group(
    runs: Sequence[Run], folders: Sequence[Path]
) -> tuple[dict[str, Any], list[str], dict[str, Any], float]:
    """A group as JSON values, the runs that failed, where the first was made, and the target."""
    settings: dict[str, Any] = {}
    failed = []
    first, target = None, math.inf
    for run, folder in zip(runs, folders, strict=True):
        record = read_run(folder)
        assert record.summary is not None
        if record.summary["status"] == "failed":
            failed.append(f"{run.name}: {record.summary['message']}")
            continue
        first, target = first or record, _target(folder, record)
        window = sum(line.get("epoch") == 0 for line in record.steps)
        setting = settings.setdefault(
            setting_name(run.config), {"config": run.config.to_dict(), "curves": []}
        )
        setting["curves"].append(asdict(read_curve(folder, window, target)))
    if first is None:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed, first {failed[0]}")
    assert first.summary is not None
    return (
        {
            "data": first.summary["data"],
            "images": first.summary["images"] or first.config.train_limit or 0,
            "parameters": first.summary["parameters"],
            "settings": settings,
        },
        failed,
        first.environment,
        target,
    )


def _target(folder: Path, record: RunRecord) -> float:
    assert record.summary is not None
    if record.summary["classes"] < 2:
        raise ValueError(
            f"{folder} holds a run of an older version, which did not record the number of "
            "classes; remove the folder and make the figure again"
        )
    return target_loss(record.summary["classes"])


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """The same value with its floats to a few significant digits, however nested.

    >>> rounded({"loss": [0.123456789, 2]})
    {'loss': [0.12346, 2]}
    """
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item, digits) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{digits}g}")
    return value


def read_results(folder: Path, number: int) -> Results:
    """Read a figure's numbers.

    Raises:
        FileNotFoundError: there are none; the message names the command that makes them.
        ValueError: another version wrote them, or they are damaged.
    """
    with checked.figure(folder / DATA, number, VERSION) as values:
        for group in values.get("groups", {}).values():
            for setting in group["settings"].values():
                setting["config"] = Config.from_dict(setting["config"])
        results = checked.build(Results, values)
        for group in results.groups.values():
            for name, setting in group.settings.items():
                _whole(name, setting)
        if not results.groups:
            raise ValueError("it holds no runs")
        return results


def _whole(name: str, setting: Setting) -> None:
    """One line of ValueError for curves that cannot be drawn."""
    if not setting.curves:
        raise ValueError(f"{name} has no curves")
    for curve in setting.curves:
        if not curve.steps or not len(curve.steps) == len(curve.loss) == len(curve.effective_lr):
            raise ValueError(f"steps, loss and effective_lr of {name} differ in length")
        if len(curve.test_steps) != len(curve.test_accuracy):
            raise ValueError(f"test_steps and test_accuracy of {name} differ in length")

"""Figure 4: CLR's step size along training, on both data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from corridor.paper import recipes, words
from corridor.paper.drawing import panels as _panels
from corridor.paper.drawing import style as _style
from corridor.paper.figure import Claim, Manifest
from corridor.paper.figures import _shape
from corridor.paper.figures import training as _common
from corridor.paper.results import Group, Results, Setting, gather, read_results

NUMBER = 4
TITLE = "The step size along training"
RECIPES = {"CIFAR-10": recipes.figure4, "ImageNet": recipes.figure3}


def compute(out: Path, scale: str, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    """Train what is missing and gather the curves; see `corridor.paper.results.gather`."""
    return gather(out, NUMBER, RECIPES, scale, seeds, **options)


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    results = read_results(folder, NUMBER)
    claims = [
        replace(_claim(results, name, setting, group), setting=words.setting_of(results, [group]))
        for name, group in results.groups.items()
        for setting in group.settings.values()
    ]
    made = _common.manifest(results, TITLE, claims)
    return replace(made, notes=[*made.notes, _shape.NOTE])


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    per = iter(_common.epochs(results))
    panels = [
        _panel(_common.named(results, name), group, [next(per) for _ in group.settings])
        for name, group in results.groups.items()
    ]
    return _common.finish(describe(folder), panels, folder)


def _panel(name: str, group: Group, per: list[float]) -> _panels.Panel:
    settings = list(group.settings.values())
    labels = None
    styles = _style.of([s.config for s in settings])
    if len({s.config.batch_size for s in settings}) > 1:
        labels = [f"CLR, cap 10, batch {s.config.batch_size}" for s in settings]
        styles = _style.by_batch(len(settings), _style.CAP_10)
    made = _panels.lines(settings, "effective_lr", styles, labels=labels, per=per)
    panel = _panels.rate_panel(made, f"Step size,\n{name}")
    panel.x = "epochs"
    return panel


def _claim(results: Results, name: str, setting: Setting, group: Group) -> Claim:
    several = len({s.config.batch_size for s in group.settings.values()}) > 1
    where = _common.named(results, name) + (
        f", batch {setting.config.batch_size}" if several else ""
    )
    return _shape.warms_up(setting, where, list(group.settings.values()))

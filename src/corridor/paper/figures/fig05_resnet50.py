"""Figure 5: CLR with a ResNet-50 on CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from corridor.paper import recipes
from corridor.paper.drawing import panels as _panels
from corridor.paper.drawing import style as _style
from corridor.paper.figure import Manifest
from corridor.paper.figures import _converges, _shape
from corridor.paper.figures import training as _common
from corridor.paper.results import gather, read_results

NUMBER = 5
TITLE = "CLR converges for a ResNet-50"
RECIPES = {"CIFAR-10": recipes.figure5}


def compute(out: Path, scale: str, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    """Train what is missing and gather the curves; see `corridor.paper.results.gather`."""
    return gather(out, NUMBER, RECIPES, scale, seeds, **options)


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    results = read_results(folder, NUMBER)
    subject, settings = (
        _common.subject(results, "a ResNet-50 on CIFAR-10"),
        _common.settings(results),
    )
    claims = _converges.converges(results, subject)
    claims += [_shape.warms_up(setting, subject, settings) for setting in settings]
    made = _common.manifest(results, TITLE, claims)
    return replace(made, notes=[*made.notes, _shape.NOTE])


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    settings = _common.settings(results)
    panels = _panels.of_training(settings, _style.of([s.config for s in settings]), results.target)
    return _common.finish(describe(folder), panels, folder, heading=_common.stand_in(results))

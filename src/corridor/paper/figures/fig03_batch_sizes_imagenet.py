"""Figure 3: CLR capped at 10 with a ResNet-50 on ImageNet, at several batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corridor.paper import recipes
from corridor.paper.drawing import panels as _panels
from corridor.paper.drawing import style as _style
from corridor.paper.figure import Manifest
from corridor.paper.figures import _converges
from corridor.paper.figures import training as _common
from corridor.paper.results import gather, read_results

NUMBER = 3
TITLE = "CLR at several batch sizes, ImageNet"
RECIPES = {"ImageNet": recipes.figure3}


def compute(out: Path, scale: str, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    """Train what is missing and gather the curves; see `corridor.paper.results.gather`."""
    return gather(out, NUMBER, RECIPES, scale, seeds, **options)


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    results = read_results(folder, NUMBER)
    subject = _common.subject(results, "a ResNet-50 on ImageNet") + ", across batch sizes"
    return _common.manifest(results, TITLE, _converges.falls(results, subject))


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    settings = _common.settings(results)
    styles = _style.by_batch(len(settings), _style.CAP_10)
    labels = [f"CLR, cap 10, batch {s.config.batch_size}" for s in settings]
    per = _common.epochs(results)
    panels = _panels.of_training(settings, styles, results.target, labels, per)
    return _common.finish(describe(folder), panels, folder, heading=_common.stand_in(results))

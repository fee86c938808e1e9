"""Beyond the paper: where CLR without a cap fails, and what mends it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corridor.paper import recipes, words
from corridor.paper.figures import _common, _panels, _style
from corridor.paper.figures._manifest import Claim, Manifest
from corridor.paper.results import Results, Setting, gather, read_results

NUMBER = 10
TITLE = "Where CLR without a cap fails, and what mends it (not in the paper)"
HARD, NARROW, WIDE = "many images", "few images", "few images, wide network"
RECIPES = {HARD: recipes.caps, NARROW: recipes.narrow, WIDE: recipes.wide}


def compute(out: Path, scale: str, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    """Train what is missing and gather the curves; see `corridor.paper.results.gather`."""
    return gather(out, NUMBER, RECIPES, scale, seeds, **options)


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    results = read_results(folder, NUMBER)
    return _common.manifest(results, TITLE, [_stable(results), *_mended(results)])


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    settings = _common.settings(results)
    panels = _panels.of_training(settings, _style.of([s.config for s in settings]), results.target)
    return _common.finish(describe(folder), panels, folder)


def _fails(setting: Setting) -> bool:
    return any(map(words.diverged, setting.curves))


def _stable(results: Results) -> Claim:
    ours = _common.settings(results)[0]
    steps = words.cell([c.max_lr for c in ours.curves])
    measured = f"final loss {words.losses(ours.curves)}, largest step {steps}"
    claim = "CLR without a cap is stable on every network (the paper: in all cases tried)"
    if not _fails(ours):
        return Claim(claim, measured, "holds")
    return Claim(claim, measured, "does not hold", _common.NO_INTERPOLATION)


def _mended(results: Results) -> list[Claim]:
    free, *others = _common.settings(results)
    theirs = words.median(free.curves, "final_loss")
    return [_mends(setting, theirs) for setting in others]


def _mends(setting: Setting, theirs: float) -> Claim:
    steps = words.cell([c.max_lr for c in setting.curves])
    measured = f"final loss {words.losses(setting.curves)}, largest step {steps}"
    claim = f"{words.label(setting.config)}: trains where CLR without a cap does worst"
    mine = words.median(setting.curves, "final_loss")
    holds = not _fails(setting) and (mine < theirs or not math.isfinite(theirs))
    return Claim(claim, measured, "holds" if holds else "does not hold")

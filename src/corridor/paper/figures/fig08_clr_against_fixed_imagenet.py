"""Figure 8: CLR capped at 10 against fixed learning rates, ResNet-50 on ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corridor.paper import recipes, words
from corridor.paper import verdicts as compare
from corridor.paper.drawing import panels as _panels
from corridor.paper.drawing import style as _style
from corridor.paper.figure import Claim, Manifest
from corridor.paper.figures import training as _common
from corridor.paper.results import Results, Setting, gather, read_results

NUMBER = 8
TITLE = "CLR against fixed learning rates, ImageNet"
RECIPES = {"ImageNet": recipes.figure8}


def compute(out: Path, scale: str, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    """Train what is missing and gather the curves; see `corridor.paper.results.gather`."""
    return gather(out, NUMBER, RECIPES, scale, seeds, **options)


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    results = read_results(folder, NUMBER)
    ours = [s for s in _common.settings(results) if s.config.optimizer == "clr"]
    return _common.manifest(results, TITLE, [_quicker(results, one) for one in ours])


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    settings = _common.settings(results)
    panels = _panels.of_training(settings, _style.of([s.config for s in settings]), results.target)
    return _common.finish(describe(folder), panels, folder, heading=_common.stand_in(results))


def _quicker(results: Results, ours: Setting) -> Claim:
    settings = _common.settings(results)
    fixed = [s for s in settings if s.config.optimizer == "sgd"]
    best = min(fixed, key=lambda s: words.median(s.curves, "final_loss"))
    measured = (
        f"final training loss {words.losses(ours.curves)}; best of {len(fixed)} fixed rates, "
        f"{best.config.lr:g}: {words.losses(best.curves)}, after as many steps"
    )
    where = _common.subject(results, "ResNet-50 on ImageNet")
    claim = f"{words.label(ours.config)}: converges quicker than every fixed rate, {where}"
    verdict, reason = compare.before_all(ours, fixed, "final_loss")
    if verdict == "does not hold":
        failed = all(map(words.diverged, ours.curves))
        tuned = "the tuned rate gets further in the steps given"
        reason = _common.why_it_fails(settings) if failed else tuned
    return Claim(claim, measured, verdict, reason)

"""Figure 8: CLR capped at 10 against fixed learning rates, ResNet-50 on ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from corridor.paper import recipes, words
from corridor.paper.curves import spread
from corridor.paper.figures import _common, _panels, _style
from corridor.paper.figures._manifest import Claim, Manifest
from corridor.paper.results import Results, gather, read_results

NUMBER = 8
TITLE = "CLR against fixed learning rates, ImageNet"
RECIPES = {"ImageNet": recipes.figure8}


def compute(out: Path, scale: str, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    """Train what is missing and gather the curves; see `corridor.paper.results.gather`."""
    return gather(out, NUMBER, RECIPES, scale, seeds, **options)


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    results = read_results(folder, NUMBER)
    made = _common.manifest(results, TITLE, [_quicker(results)])
    return replace(made, caption=_common.stand_in(results) + made.caption)


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    settings = _common.settings(results)
    panels = _panels.of_training(settings, _style.of([s.config for s in settings]), results.target)
    return _common.finish(describe(folder), panels, folder)


def _quicker(results: Results) -> Claim:
    settings = _common.settings(results)
    ours = settings[0]
    fixed = [s for s in settings if s.config.optimizer == "sgd"]
    best = min(fixed, key=lambda s: words.median(s.curves, "final_loss"))
    a, b = (spread([c.final_loss for c in s.curves]) for s in (ours, best))
    measured = (
        f"final training loss {words.losses(ours.curves)}; best of {len(fixed)} fixed rates, "
        f"{best.config.lr:g}: {words.losses(best.curves)}, after as many steps"
    )
    claim = "CLR with cap 10 converges quicker than every fixed rate, ResNet-50 on ImageNet"
    if a[2] < b[0]:
        return Claim(claim, measured, "holds")
    if a[0] > b[2]:
        reason = "the tuned rate gets further in the steps given"
        return Claim(claim, measured, "does not hold", reason)
    return Claim(claim, measured, "undecided", "the ranges over seeds overlap")

"""Figure 2: CLR against fixed learning rates, in training loss, test accuracy and step size."""

from __future__ import annotations

import math
import statistics
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

NUMBER = 2
TITLE = "CLR against fixed learning rates"
LARGER = 1.1  # times CLR's mean step; a rate nearer to it is the same
RECIPES = {"CIFAR-10": recipes.figure2}


def compute(out: Path, scale: str, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    """Train what is missing and gather the curves; see `corridor.paper.results.gather`."""
    return gather(out, NUMBER, RECIPES, scale, seeds, **options)


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    results = read_results(folder, NUMBER)
    return _common.manifest(results, TITLE, _claims(results))


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    settings = _common.settings(results)
    panels = _panels.of_training(settings, _style.of([s.config for s in settings]), results.target)
    return _common.finish(describe(folder), panels, folder, heading=_common.stand_in(results))


def _claims(results: Results) -> list[Claim]:
    settings = _common.settings(results)
    fixed = [s for s in settings if s.config.optimizer == "sgd"]
    ours = [s for s in settings if s.config.optimizer == "clr"]
    return [
        *(_first_to_target(one, settings, results.target) for one in ours),
        *(_tests_better(one, fixed) for one in ours),
    ]


def _first_to_target(ours: Setting, settings: list[Setting], target: float) -> Claim:
    fixed = [s for s in settings if s.config.optimizer == "sgd"]
    name = words.label(ours.config)
    steps = words.median(ours.curves, "steps_to_target")
    best = min(fixed, key=lambda s: words.median(s.curves, "steps_to_target"))
    other = words.median(best.curves, "steps_to_target")
    claim = f"{name}: reaches training loss {target:g} before every fixed rate of the sweep"
    measured = (
        f"{_in_steps(ours)}; best of {len(fixed)} fixed rates, {best.config.lr:g}: "
        f"{_in_steps(best)}; final losses {words.losses(ours.curves)} and "
        f"{words.losses(best.curves)}"
    )
    if not math.isfinite(min(steps, other)):
        return Claim(claim, "no setting reached it in the steps given", "undecided")
    verdict, reason = compare.before_all(ours, fixed, "steps_to_target")
    if verdict == "does not hold":
        reason = _slower(ours, settings)
    return Claim(claim, measured, verdict, reason)


def _slower(ours: Setting, settings: list[Setting]) -> str:
    if all(map(words.diverged, ours.curves)):
        return _common.why_it_fails(settings)
    if ours.config.lr is not None and words.median(ours.curves, "median_lr") == ours.config.lr:
        return (
            "the cap holds most steps down to itself: this is gradient descent at the cap, and "
            "a fixed rate as large or larger keeps up with it"
        )
    return "a tuned fixed rate is quicker here"


def _in_steps(setting: Setting) -> str:
    cell = words.cell([c.steps_to_target for c in setting.curves])
    return f"{cell} steps" if cell[0].isdigit() else cell


def _tests_better(ours: Setting, fixed: list[Setting]) -> Claim:
    rate = statistics.median(c.mean_lr for c in ours.curves)
    larger = [s for s in fixed if s.config.lr is not None and s.config.lr >= LARGER * rate]
    name = words.label(ours.config)
    claim = f"A larger fixed rate tests better than {name}"
    mine = (
        f"CLR {words.accuracy(ours.curves)} at a mean step of {words.number(rate)} (until the "
        "target, where it is reached)"
    )
    if all(map(words.diverged, ours.curves)):
        return Claim(claim, mine, "undecided", "its runs fail")
    if not larger:
        return Claim(claim, f"{mine}; no larger rate ran", "undecided")
    best = max(larger, key=lambda s: words.median(s.curves, "best_accuracy"))
    measured = f"{mine}; best larger rate {best.config.lr:g}: {words.accuracy(best.curves)}"
    return Claim(claim, measured, *_better(best, ours))


def _better(one: Setting, other: Setting) -> tuple[str, str]:
    """Whether one tests better than another in every run."""
    name = "best_accuracy"
    sign = compare.order(compare.values(one.curves, name), compare.values(other.curves, name))
    verdicts = {1: ("holds", ""), -1: ("does not hold", "")}
    return verdicts.get(sign, (compare.TIE, compare.OVERLAP))

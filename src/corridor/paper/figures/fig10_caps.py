"""Beyond the paper: where CLR without a cap fails, what mends it, and where it needs no mending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from corridor.paper import recipes, words
from corridor.paper import verdicts as compare
from corridor.paper.drawing import panels as _panels
from corridor.paper.drawing import style as _style
from corridor.paper.figure import Claim, Manifest
from corridor.paper.figures import _converges
from corridor.paper.figures import training as _common
from corridor.paper.results import Group, Results, Setting, gather, read_results

NUMBER = 10
TITLE = "Where CLR without a cap fails, what mends it, and where it holds (not in the paper)"
HARD, NARROW, WIDE = "many images", "few images", "few images, wide network"
RECIPES = {HARD: recipes.caps, NARROW: recipes.narrow, WIDE: recipes.wide}


def compute(out: Path, scale: str, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    """Train what is missing and gather the curves; see `corridor.paper.results.gather`."""
    return gather(out, NUMBER, RECIPES, scale, seeds, **options)


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    results = read_results(folder, NUMBER)
    mended = [
        replace(claim, setting=words.setting_of(results, [group]))
        for key, group in results.groups.items()
        for claim in _mended(group, _names(results)[key])
    ]
    leads = dict.fromkeys(results.groups, "")  # images and network tell the groups apart
    return _common.manifest(results, TITLE, [_stable(results), *mended], leads)


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    panels = []
    for key, group in results.groups.items():
        settings = list(group.settings.values())
        styles = _style.of([s.config for s in settings])
        loss, _, rate = _panels.of_training(settings, styles, results.target)
        loss.title = _names(results)[key]
        loss.y = f"training loss, {loss.y}"
        panels += [loss, rate]
    return _common.finish(describe(folder), panels, folder, columns=2)


def _named(group: Group) -> str:
    return f"{group.images:,} images, {words.network(_uncapped(group).config)}"


def _names(results: Results) -> dict[str, str]:
    """A name for each group by its key; where two are alike, they tell how long they train."""
    plain = {key: _named(group) for key, group in results.groups.items()}
    alike = {name for name in plain.values() if list(plain.values()).count(name) > 1}
    return {
        key: name + (f", {_length(results.groups[key])}" if name in alike else "")
        for key, name in plain.items()
    }


def _length(group: Group) -> str:
    setting = _uncapped(group)
    return f"{setting.curves[0].steps[-1]} steps"


def _uncapped(group: Group) -> Setting:
    return next(iter(group.settings.values()))


def _fails(setting: Setting) -> bool:
    return any(map(words.diverged, setting.curves))


def _stable(results: Results) -> Claim:
    names = _names(results)
    ours = {key: _uncapped(group) for key, group in results.groups.items()}
    measured = "; ".join(
        f"{names[key]}: final loss {words.losses(s.curves)}, largest step "
        f"{words.cell([c.max_lr for c in s.curves])}"
        for key, s in ours.items()
    )
    claim = "CLR without a cap is stable on every network (the paper: in all cases tried)"
    good = [key for key, s in ours.items() if not _fails(s)]
    if len(good) == len(ours):
        return Claim(claim, measured, "holds")
    failing = [group for key, group in results.groups.items() if key not in good]
    settings = [s for group in failing for s in group.settings.values()]
    holds = f"it holds for {'; '.join(names[key] for key in good)}; elsewhere " if good else ""
    return Claim(claim, measured, "does not hold", holds + _common.why_it_fails(settings))


def _mended(group: Group, name: str) -> list[Claim]:
    """Whether each of the others ends lower than CLR without a cap, and how low where it holds."""
    free, *others = group.settings.values()
    if _fails(free):
        return [_mends(setting, free, name) for setting in others]
    left = _common.share_left(free)
    best = min(others, key=lambda s: words.median(s.curves, "final_loss"))
    measured = (
        f"final loss {words.losses(free.curves)}; {words.label(best.config)}: "
        f"{words.losses(best.curves)}"
    )
    claim = f"{name}: CLR without a cap converges with no remedy, to less than a tenth of the loss"
    return [Claim(claim, measured, "holds" if left < _converges.SHARE else "does not hold")]


def _mends(setting: Setting, free: Setting, name: str) -> Claim:
    steps = words.cell([c.max_lr for c in setting.curves])
    measured = f"final loss {words.losses(setting.curves)}, largest step {steps}"
    claim = f"{name}, {words.label(setting.config)}: trains where CLR without a cap does not"
    if _fails(setting):
        return Claim(claim, measured, "does not hold", "some runs end no lower than they began")
    return Claim(claim, measured, *compare.before_all(setting, [free], "final_loss"))

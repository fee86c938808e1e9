"""Figure 4: CLR's step size along training, on both data sets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corridor.paper import recipes, words
from corridor.paper.curves import Curve
from corridor.paper.figures import _common, _panels, _style
from corridor.paper.figures._manifest import Claim, Manifest
from corridor.paper.results import Group, Results, Setting, gather, read_results

NUMBER = 4
TITLE = "The step size along training"
RECIPES = {"CIFAR-10": recipes.figure4, "ImageNet": recipes.figure3}
SEGMENTS = 20
LATE = 0.05  # below this loss a late rise of the step size is what theory expects


@dataclass(frozen=True)
class Shape:
    """How a step size went, from medians over twentieths of a run while the loss is above 0.05.

    Attributes:
        rise: the largest over the first.
        peak: where the largest is, as a share of the run.
        fall: the last over the largest.
    """

    rise: float
    peak: float
    fall: float

    @property
    def warms_up_then_decays(self) -> bool:
        """Up by a fifth at least, and then down to half."""
        return self.rise > 1.2 and self.fall < 0.5

    @property
    def decays(self) -> bool:
        """Down to half from a peak in the first twentieth."""
        return self.rise <= 1.2 and self.fall < 0.5


def shape(curve: Curve) -> Shape:
    """The shape of a run's step size."""
    pairs = zip(curve.loss, curve.effective_lr, strict=True)
    rates = [rate for loss, rate in pairs if loss > LATE and math.isfinite(rate)]
    size = max(1, len(rates) // SEGMENTS)
    parts = [statistics.median(rates[k : k + size]) for k in range(0, len(rates), size)]
    top = max(parts)
    return Shape(top / parts[0], parts.index(top) / len(parts), parts[-1] / top)


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
    note = (
        "Shape of the step size: medians over twentieths of a run, while the training loss is "
        f"above {LATE:g}; below it the step size is expected to rise again (cross-entropy's tail)."
    )
    return replace(made, notes=[*made.notes, note])


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    per = iter(_common.epochs(results))
    panels = [
        _panel(_named(results, name), group, [next(per) for _ in group.settings])
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
    panel = _panels.rate_panel(made, f"Step size, {name}")
    panel.x = "epochs"
    return panel


def _named(results: Results, name: str) -> str:
    """The group's data set, or that it stands in for it."""
    return f"stand-in for {name}" if name in _common.missing(results) else name


def _claim(results: Results, name: str, setting: Setting, group: Group) -> Claim:
    shapes = [shape(c) for c in setting.curves]
    label = words.label(setting.config)
    several = len({s.config.batch_size for s in group.settings.values()}) > 1
    batch = f", batch {setting.config.batch_size}" if several else ""
    claim = f"{label}, {_named(results, name)}{batch}: the step size warms up, then decays"
    measured = (
        f"peak {words.cell([s.rise for s in shapes])} times the start, at "
        f"{words.cell([100 * s.peak for s in shapes])} % of the run; end "
        f"{words.cell([s.fall for s in shapes])} of the peak"
    )
    done = sum(s.warms_up_then_decays for s in shapes)
    if done == len(shapes):
        return Claim(claim, measured, "holds")
    reason = _reason(setting, shapes, list(group.settings.values()))
    if done:
        return Claim(claim, measured, f"holds under {done} of {len(shapes)} seeds", reason)
    return Claim(claim, measured, "does not hold", reason)


def _reason(setting: Setting, shapes: list[Shape], every: list[Setting]) -> str:
    cap = setting.config.lr
    if cap is not None and words.median(setting.curves, "median_lr") == cap:
        return f"the cap of {cap:g} holds most steps: the step size is constant"
    if all(map(words.diverged, setting.curves)):
        return "the runs fail: " + _common.why_it_fails(every)
    if all(s.decays for s in shapes):
        return "it decays from the first steps on, without a warm-up"
    return (
        "along the gradient flow dh/dt = 4 rho_parallel - 1: the step size rises wherever "
        "rho_parallel is above 1/4, which is a property of network and data"
    )

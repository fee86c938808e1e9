"""Figure 9: CLR over a wide range of batch sizes, and what gradient noise predicts of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from corridor.paper import recipes, words
from corridor.paper import verdicts as compare
from corridor.paper.curves import spread
from corridor.paper.drawing import panels as _panels
from corridor.paper.drawing import style as _style
from corridor.paper.figure import Claim, Manifest
from corridor.paper.figures import _converges
from corridor.paper.figures import training as _common
from corridor.paper.results import Results, Setting, gather, read_results
from corridor.train.config import Config

NUMBER = 9
TITLE = "CLR over a wide range of batch sizes"
RECIPES = {"CIFAR-10": recipes.figure9}
FORMS = (
    (recipes.UNCAPPED, "no cap", _style.CLR_UNCAPPED),
    (recipes.DEFAULT, "cap 1", _style.CLR_CAPPED),
    (recipes.DRIFT, "drift 1", _style.DRIFT),
)


# The law holds where no batch size misses its CLR by more than this share.
MISS = 0.15


@dataclass(frozen=True)
class Fit:
    """``CLR_B = CLR_inf / (1 + B_n / B)``, a line in 1/B, fitted to 1/CLR_B.

    Attributes:
        limit: CLR_inf.
        noise: B_n, in images.
        misses: of the law, as shares of the rates, one a batch size.
        slope: of log CLR over log B between the two smallest batches.
    """

    limit: float
    noise: float
    misses: list[float]
    slope: float


def fit(sizes: Sequence[float], rates: Sequence[float]) -> Fit:
    """Fit the noise-scale law to median step sizes.

    Example:
        >>> sizes = [10, 100, 1000]
        >>> found = fit(sizes, [2 / (1 + 50 / b) for b in sizes])
        >>> round(found.limit, 6), round(found.noise, 6), round(max(found.misses), 6)
        (2.0, 50.0, 0.0)
    """
    x, y = [1 / b for b in sizes], [1 / r for r in rates]
    line = statistics.linear_regression(x, y)
    misses = [
        abs(1 / (line.intercept + line.slope * a) / r - 1) for a, r in zip(x, rates, strict=True)
    ]
    slope = math.log(rates[1] / rates[0]) / math.log(sizes[1] / sizes[0])
    return Fit(1 / line.intercept, line.slope / line.intercept, misses, slope)


def compute(out: Path, scale: str, seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    """Train what is missing and gather the curves; see `corridor.paper.results.gather`."""
    return gather(out, NUMBER, RECIPES, scale, seeds, **options)


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    results = read_results(folder, NUMBER)
    claims = _converges.converges(results, "over a wide range of batch sizes")
    claims += [_noise(results), _tuned(results)]
    return _common.manifest(results, TITLE, claims)


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest."""
    results = read_results(folder, NUMBER)
    panels = []
    for form, name, style in FORMS:
        ours = _of(results, form)
        if not ours:
            continue
        made = _panels.lines(
            ours,
            "loss",
            _style.by_batch(len(ours), style),
            labels=[f"{name}, batch {_size(s, results)}" for s in ours],
            per=[_images(results) / _size(s, results) for s in ours],
        )
        panel = _panels.loss_panel(ours, made, results.target, f"Training loss, {name}")
        panel.x = "epochs"
        panels.append(panel)
    return _common.finish(
        describe(folder),
        [*panels, _law_panel(results)],
        folder,
        columns=2,
        heading=_common.stand_in(results),
    )


def _of(results: Results, form: dict[str, Any]) -> list[Setting]:
    """The settings of one form of CLR, by batch size."""
    wanted = words.label(Config(**form))
    found = [s for s in _common.settings(results) if words.label(s.config) == wanted]
    return sorted(found, key=lambda setting: setting.config.batch_size)


def _images(results: Results) -> int:
    return next(iter(results.groups.values())).images


def _size(setting: Setting, results: Results) -> int:
    return min(setting.config.batch_size, _images(results))


def _law(results: Results) -> tuple[list[int], list[float], Fit | None]:
    """Batch sizes, their CLR before the cap over one stretch of the loss, and the fitted law."""
    points = _points(results)
    sizes, rates = [size for size, _ in points], [rate[1] for _, rate in points]
    enough = len(set(sizes)) >= 3
    return sizes, rates, fit(sizes, rates) if enough else None


def _points(results: Results) -> list[tuple[int, tuple[float, float, float]]]:
    """Batch sizes, and lowest, median and highest CLR over seeds before the cap."""
    found = [
        (_size(s, results), spread(compare.values(s.curves, "matched_clr")))
        for s in _of(results, recipes.DEFAULT)
    ]
    return [(size, rates) for size, rates in found if all(map(math.isfinite, rates))]


def _law_panel(results: Results) -> _panels.Panel:
    sizes, _, found = _law(results)
    low, middle, high = ([rates[i] for _, rates in _points(results)] for i in range(3))
    band: dict[str, list[Any]] = {"x": sizes, "median": middle, "low": low, "high": high}
    style = {**_style.CLR_CAPPED, "dashes": (1, 0), "marker": "o"}
    lines = [_panels.Line("CLR before the cap, at matched loss", style, band)]
    if found and found.limit > 0:
        places = [sizes[0] * (sizes[-1] / sizes[0]) ** (k / 40) for k in range(41)]
        law = [found.limit / (1 + found.noise / size) for size in places]
        curve: dict[str, list[Any]] = {"x": places, "median": law, "low": law, "high": law}
        look = {"color": "#444444", "linewidth": 1.4, "zorder": 3, "dashes": (2, 1.5)}
        lines.append(_panels.Line("noise-scale law, fitted", look, curve))
    title = "Step size against batch"
    return _panels.Panel(title, "median CLR", "batch size", log=True, log_x=True, lines=lines)


def _noise(results: Results) -> Claim:
    claim = "CLR grows with the batch as gradient noise predicts, CLR_inf / (1 + B_n / B)"
    sizes, rates, found = _law(results)
    if found is None:
        return Claim(claim, "too few batch sizes reached the stretch of loss", "undecided")
    worst = max(found.misses)
    pairs = ", ".join(f"{words.number(r)} at {b}" for b, r in zip(sizes, rates, strict=True))
    measured = (
        f"median CLR before the cap {pairs}; the fitted law misses by {worst:.0%} at most, "
        f"at batch {sizes[found.misses.index(worst)]}; B_n {words.number(found.noise)} images; "
        f"log-log slope {found.slope:.2f} between the two "
        "smallest batches"
    )
    rises = all(a < b for a, b in pairwise(rates))
    if rises and (max(rates) - min(rates)) / (max(rates) + min(rates)) <= MISS:
        return Claim(claim, measured, "undecided", "one CLR for all batches would fit as well")
    if rises and worst <= MISS:
        return Claim(claim, measured, "holds")
    reason = (
        "the law compares batches at the same weights; runs at other batch sizes reach a loss by "
        "other paths, and large steps come before the loss falls"
    )
    return Claim(claim, measured, "does not hold", reason)


def _tuned(results: Results) -> Claim:
    fixed = [s for s in _common.settings(results) if s.config.optimizer == "sgd"]
    ours = [_of(results, form)[0] for form, _, _ in FORMS if _of(results, form)]
    claim = "At the smallest batch a tuned fixed rate ends at a lower training loss than CLR"
    best, mine = (
        min(group, key=lambda s: words.median(s.curves, "final_loss")) for group in (fixed, ours)
    )
    measured = (
        f"{words.label(best.config)}: {words.losses(best.curves)}; "
        f"{words.label(mine.config)}: {words.losses(mine.curves)}"
    )
    return Claim(claim, measured, *compare.before_all(best, [mine], "final_loss"))

"""Make figure 9: CLR over a wide range of batch sizes, and the noise law of its step size."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from corridor.paper import verdicts, words
from corridor.paper.curves import spread
from corridor.paper.drawing import panels, style
from corridor.paper.figure import Claim
from corridor.paper.figures.training import training_figure
from corridor.paper.results import Results

CAPPED = "CLR, cap 1"
# The law holds if it misses no batch size by a larger share.
MISS = 0.15
# Minimum, median and maximum over seeds, per batch size.
Rates = dict[int, tuple[float, float, float]]
LAW: style.Style = {"color": "#444444", "linewidth": 1.4, "zorder": 3, "dashes": (2, 1.5)}


@dataclass(frozen=True)
class Fit:
    """Hold a fit of ``CLR_B = CLR_inf / (1 + B_n / B)``; 1 / CLR_B is a line in 1 / B.

    CLR_inf is the limit, and B_n the noise, in images. The misses are shares of the step size at
    each batch size. The slope is the slope of log CLR over log B between the two smallest batches.
    """

    limit: float
    noise: float
    misses: list[float]
    slope: float


def fit(sizes: Sequence[float], rates: Sequence[float]) -> Fit:
    """Return the fit of the noise law to one step size per batch size, in ascending order.

    >>> found = fit([10, 100, 1000], [2 / (1 + 50 / b) for b in (10, 100, 1000)])
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


def _matched(results: Results) -> Rates:
    """Return the spread of `matched_clr` over seeds, for the batch sizes where it is finite."""
    (group,) = results.groups.values()
    capped = verdicts.by_form(results.of("clr")).get(CAPPED, [])
    found = {group.batch(s): spread(s.values("matched_clr")) for s in capped}
    return {size: rates for size, rates in found.items() if all(map(math.isfinite, rates))}


def _fitted(found: Rates) -> Fit | None:
    medians = [middle for _, middle, _ in found.values()]
    return fit([*found], medians) if len(found) >= 3 else None


def _panels(results: Results) -> list[panels.Panel]:
    (group,) = results.groups.values()
    made = []
    for label, ours in verdicts.by_form(results.of("clr")).items():
        name = label.removeprefix("CLR, ").removesuffix(" (the paper's)")
        (look,) = style.of([ours[0].config])
        labels = [f"{name}, batch {group.batch(s)}" for s in ours]
        epochs = [group.images / group.batch(s) for s in ours]
        curves = panels.Curves(ours, style.by_batch(len(ours), look), labels, epochs)
        made.append(curves.loss(results.target, f"Training loss, {name}"))
    found = _matched(results)
    # matplotlib cannot draw logarithmic axes without a point.
    return [*made, _law_panel(found)] if found else made


def _law_panel(found: Rates) -> panels.Panel:
    sizes, law = [*found], _fitted(found)
    low, middle, high = map(list, zip(*found.values(), strict=True))
    band: panels.Band = {"x": sizes, "median": middle, "low": low, "high": high}
    look = {**style.CLR_CAPPED, "dashes": (1, 0), "marker": "o"}
    lines = [panels.Line("CLR before the cap, at matched loss", look, band)]
    if law and law.limit > 0:
        places = [sizes[0] * (sizes[-1] / sizes[0]) ** (k / 40) for k in range(41)]
        y = [law.limit / (1 + law.noise / size) for size in places]
        curve: panels.Band = {"x": places, "median": y, "low": y, "high": y}
        lines.append(panels.Line("noise-scale law, fitted", LAW, curve))
    title = "Step size against batch"
    return panels.Panel(title, "median CLR", lines, "batch size", log=True, log_x=True)


def _claims(results: Results) -> list[Claim]:
    claims = verdicts.converges(results, "over a wide range of batch sizes")
    return [*claims, _noise(_matched(results)), _tuned(results)]


def _noise(found: Rates) -> Claim:
    claim = "CLR grows with the batch as gradient noise predicts, CLR_inf / (1 + B_n / B)"
    law = _fitted(found)
    if law is None:
        return Claim(claim, "too few batch sizes reached the stretch of loss", "undecided")
    worst = max(law.misses)
    rates = [middle for _, middle, _ in found.values()]
    pairs = ", ".join(f"{words.number(r)} at {b}" for b, r in zip(found, rates, strict=True))
    measured = (
        f"median CLR before the cap {pairs}; the fitted law misses by {worst:.0%} at most, "
        f"at batch {[*found][law.misses.index(worst)]}; "
        f"B_n {words.number(law.noise)} images; "
        f"log-log slope {law.slope:.2f} between the two smallest batches"
    )
    # A law that a constant fits as well explains nothing.
    rises = all(a < b for a, b in pairwise(rates))
    if rises and (max(rates) - min(rates)) / (max(rates) + min(rates)) <= MISS:
        return Claim(claim, measured, "undecided", "one CLR for all batches would fit as well")
    if rises and worst <= MISS:
        return Claim(claim, measured, "holds")
    reason = (
        "the law compares batches at equal weights, but runs at other batch sizes reach a loss by "
        "other paths, and large steps come before the loss falls"
    )
    return Claim(claim, measured, "does not hold", reason)


def _tuned(results: Results) -> Claim:
    smallest = [ours[0] for ours in verdicts.by_form(results.of("clr")).values()]
    best, ours = (
        min(settings, key=lambda s: s.median("final_loss"))
        for settings in (results.of("sgd"), smallest)
    )
    return Claim(
        "At the smallest batch a tuned fixed rate ends at a lower training loss than CLR",
        f"{words.label(best.config)}: {words.losses(best)}; "
        f"{words.label(ours.config)}: {words.losses(ours)}",
        *verdicts.lower_than_all(best, [ours], "final_loss"),
    )


FIGURE = training_figure(
    9,
    "CLR over a wide range of batch sizes",
    {"CIFAR-10": "figure9"},
    claims=_claims,
    panels_of=_panels,
    columns=2,
)

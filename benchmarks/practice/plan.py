"""The plan of runs: which runs there are, and in which order.

An entrant without rates runs all seeds. One whose rate is tuned for each problem runs the first
seed at all rates, then the other seeds at the best rate and its neighbors. One with a single rate
for all problems runs the first seed at all rates, and the other seeds at the calibrated rate.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.practice.entrant import Entrant
from benchmarks.practice.records import Key, key_of

SEEDS = (0, 1, 2)
CALIBRATED = Path(__file__).parent / "calibrated.json"
Losses = Mapping[Key, float]


def final(record: Mapping[str, Any]) -> float:
    """Return the validation loss at the end of a run; inf for a failure."""
    return math.inf if record["failure"] else record["losses"][-1]


def finals(records: Iterable[Mapping[str, Any]]) -> dict[Key, float]:
    """Return the final loss of each run."""
    return {key_of(record): final(record) for record in records}


def first_runs(
    half: str, problem: str, entrant: Entrant, seeds: Sequence[int], scale: int
) -> list[Key]:
    """Return the runs that depend on no other run."""
    rates = entrant.rates or (None,)
    settled = len(rates) == 1 and (entrant.rates is None or entrant.choice == "one")
    return [
        Key(half, problem, entrant.name, rate, seed, scale)
        for rate in rates
        for seed in (seeds if settled else seeds[:1])
    ]


def further_runs(
    half: str, problems: Sequence[str], entrant: Entrant, losses: Losses, seeds: Sequence[int],
    scale: int,
) -> list[Key]:  # fmt: skip
    """Return the runs of the other seeds that the first seed's runs ask for.

    Args:
        half: half of the problems.
        problems: names of the problems.
        entrant: the entrant.
        losses: final losses of the runs that have ended.
        seeds: all seeds; the first one is that of the sweep.
        scale: factor on the number of steps.
    """
    chosen: dict[str, list[float]] = {}
    if entrant.rates is not None and entrant.choice == "one":
        rate = calibrate(half, problems, entrant, losses, seeds[0], scale)
        chosen = {} if rate is None else {problem: [rate] for problem in problems}
    elif entrant.rates is not None:
        for problem in problems:
            swept = sweep(first_runs(half, problem, entrant, seeds, scale), losses)
            if swept is not None and math.isfinite(min(swept)):
                chosen[problem] = neighbors(entrant.rates, swept)
    return [
        Key(half, problem, entrant.name, rate, seed, scale)
        for problem, rates in chosen.items()
        for rate in rates
        for seed in seeds[1:]
    ]


def sweep(keys: Sequence[Key], losses: Losses) -> list[float] | None:
    """Return the losses of a sweep, None while one of them is missing."""
    found = [losses.get(key) for key in keys]
    return None if None in found else found  # pyright: ignore[reportReturnType]


def neighbors(rates: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Return the rate of the lowest loss and the rates beside it."""
    best = losses.index(min(losses))
    return list(rates[max(0, best - 1) : best + 2])


def calibrate(
    half: str, problems: Sequence[str], entrant: Entrant, losses: Losses, seed: int, scale: int = 1
) -> float | None:
    """Return the one rate whose loss over the problem's best is lowest, median over the problems.

    The geometric mean decides between equal medians.

    Returns:
        The rate; None while a run is missing.
    """
    ratios: dict[float, list[float]] = defaultdict(list)
    for problem in problems:
        swept = sweep(first_runs(half, problem, entrant, [seed], scale), losses)
        if swept is None:
            return None
        best = min(swept)
        for rate, loss in zip(entrant.rates or (), swept, strict=True):
            ratios[rate].append(loss / best if math.isfinite(loss) else math.inf)
    return min(ratios, key=lambda rate: score(ratios[rate]), default=None)


def calibrated() -> dict[str, float]:
    """Return the rates that the development half calibrated, by entrant."""
    return json.loads(CALIBRATED.read_text(encoding="utf-8")) if CALIBRATED.exists() else {}


def settled(entrant: Entrant, half: str, scale: int) -> Entrant:
    """Return an entrant as it takes part: with its calibrated rate where it has one for all.

    The development half itself, at its own number of steps, calibrates.

    Raises:
        SystemExit: the rate is not calibrated yet.
    """
    if entrant.choice == "best" or (half == "development" and scale == 1):
        return entrant
    rate = calibrated().get(entrant.name)
    if rate is None:
        how = "run the development half and its report first"
        raise SystemExit(f"{entrant.name} must be calibrated; {how}")
    return replace(entrant, rates=(rate,))


def score(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the median and the mean logarithm of some ratios."""
    return statistics.median(ratios), statistics.fmean(map(math.log, ratios))


def priority(entrant: Entrant, key: Key, place: int) -> tuple[int, int, int]:
    """Return what a run is sorted by: its entrant's order, its seed, its problem's place."""
    return entrant.order, key.seed, place

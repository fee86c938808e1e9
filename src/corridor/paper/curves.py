"""From run folders to curves and medians: what figures and tables are made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corridor.paper import checked
from corridor.train.folder.record import METRICS, RunRecord, read_run

POINTS = 200


@dataclass(frozen=True)
class Curve:
    """One run, ready to be drawn.

    Attributes:
        status: finished, diverged or failed.
        steps: steps made, one entry a point.
        loss: training loss, the mean over the last epoch's worth of batches; one a point.
        effective_lr: step size, one a point.
        test_steps: steps made before each evaluation.
        test_accuracy: between 0 and 1, one an evaluation.
        steps_to_target: steps until `loss` first fell below the target; None if it never did.
        mean_lr: mean step size until then, or over all steps.
        median_lr: median step size over all steps.
        max_lr: the largest step size.
        matched_clr: median of loss over squared gradient norm, before any cap, while `loss` is
            between 0.5 and 0.9 of its first value: the same stretch of training in every run.
        final_loss: the last of `loss`; inf if the run diverged.
        best_accuracy: the best of all evaluations; -inf without any.
    """

    status: str
    steps: list[int]
    loss: list[float]
    effective_lr: list[float]
    test_steps: list[int]
    test_accuracy: list[float]
    steps_to_target: int | None
    mean_lr: float
    median_lr: float
    max_lr: float
    matched_clr: float
    final_loss: float
    best_accuracy: float


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean over the last `window` values at each place, over all there are before that.

    Example:
        >>> running_mean([4.0, 2.0, 0.0], 2)
        [4.0, 3.0, 1.0]
    """
    means = []
    for end in range(1, len(values) + 1):  # each window by itself: a sum carried on keeps the
        last = values[max(0, end - window) : end]  # rounding errors of a huge loss for ever
        finite = all(map(math.isfinite, last))
        means.append(math.fsum(last) / len(last) if finite else math.inf)
    return means


def first_below(values: Sequence[float], target: float, window: int) -> int | None:
    """How many values it took until a full window's mean fell below the target."""
    for index, value in enumerate(values):
        if index + 1 >= window and value < target:
            return index + 1
    return None


def read_curve(folder: Path, window: int, target: float) -> Curve:
    """Read a run that has ended.

    Args:
        folder: the run folder.
        window: steps the training loss is averaged over, an epoch's worth.
        target: training loss that counts as reached.

    Raises:
        FileNotFoundError: there is no run, or it has not ended.
        ValueError: its metrics are damaged.
    """
    run: RunRecord = read_run(folder)
    if run.summary is None:
        raise FileNotFoundError(f"the run in {folder} has not ended; run its sweep again")
    with checked.reading(folder / METRICS, f"remove {folder} and run its sweep again"):
        return _curve(run, window, target)


def _curve(run: RunRecord, window: int, target: float) -> Curve:
    assert run.summary is not None
    if not run.steps:
        raise ValueError("it holds no steps")
    status = run.summary["status"]
    loss = running_mean([line["loss"] for line in run.steps], window)
    rates = [line["effective_lr"] for line in run.steps]
    reached = first_below(loss, target, window)
    kept = _thin(len(loss))
    accuracy = [line["test_accuracy"] for line in run.evaluations]
    return Curve(
        status=status,
        steps=[run.steps[i]["step"] for i in kept],
        loss=[loss[i] for i in kept],
        effective_lr=[rates[i] for i in kept],
        test_steps=[line["step"] for line in run.evaluations],
        test_accuracy=accuracy,
        steps_to_target=reached,
        mean_lr=statistics.fmean(rates[:reached]),
        median_lr=statistics.median(rates),
        max_lr=max(rates),
        matched_clr=_matched_clr(run, loss),
        final_loss=loss[-1] if loss and status == "finished" else math.inf,
        best_accuracy=max(accuracy, default=-math.inf),
    )


def _matched_clr(run: RunRecord, loss: Sequence[float]) -> float:
    """CLR of the batches, whatever the optimizer did with it, over one stretch of the loss."""
    found = [
        line["loss"] / line["grad_norm"] ** 2
        for line, mean in zip(run.steps, loss, strict=True)
        if 0.5 * loss[0] <= mean <= 0.9 * loss[0] and line["grad_norm"] > 0
    ]
    return statistics.median(found) if found else math.nan


def _thin(count: int) -> list[int]:
    """Every 2^k-th place and the last, about `POINTS` in all; a shorter run keeps the same places.

    >>> _thin(3), _thin(POINTS * 2)[:3]
    ([0, 1, 2], [0, 2, 4])
    """
    stride = 1
    while count / stride > POINTS:
        stride *= 2
    return sorted({*range(0, count, stride), *range(count - 1, count)})


def spread(values: Sequence[float | None]) -> tuple[float, float, float]:
    """Lowest, median and highest, a missing value counting as infinity.

    >>> spread([4.0, 1.0])
    (1.0, 2.5, 4.0)
    """
    numbers = sorted(math.inf if v is None else v for v in values)
    return numbers[0], statistics.median(numbers), numbers[-1]


def band(curves: Sequence[Curve], name: str, at: str = "steps") -> dict[str, list[Any]]:
    """Median and range over runs of one quantity, at the places all of them have."""
    columns: dict[int, list[float]] = {}
    for curve in curves:
        for x, y in zip(getattr(curve, at), getattr(curve, name), strict=True):
            columns.setdefault(x, []).append(y)
    kept = sorted(x for x, ys in columns.items() if len(ys) == len(curves))
    rows = [spread(columns[x]) for x in kept]
    low, mid, high = ([row[i] for row in rows] for i in range(3))
    return {"x": kept, "low": low, "median": mid, "high": high}

"""Read run folders into curves, and summarize curves over seeds."""

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corridor.train.folder.record import METRICS, RunRecord, read_run

POINTS = 200


@dataclass(frozen=True)
class Curve:
    """Hold the curves and the summary numbers of one run; a point is a step, thinned."""

    status: str
    steps: list[int]
    loss: list[float]  # training loss per point, averaged over the last epoch's worth of batches
    effective_lr: list[float]
    test_steps: list[int]
    test_accuracy: list[float]
    steps_to_target: int | None  # until `loss` first fell below the target; None if it never did
    mean_lr: float  # mean step size until the target, or over all steps if it was not reached
    median_lr: float
    max_lr: float
    # Median of loss over squared gradient norm while `loss` is 0.5 to 0.9 of its first value.
    matched_clr: float
    final_loss: float  # last value of `loss`; inf if the run diverged
    best_accuracy: float  # largest test accuracy; -inf without evaluations

    @property
    def diverged(self) -> bool:
        """True if the loss became non-finite, or ended no lower than it began."""
        return self.status == "diverged" or not self.final_loss < self.loss[0]


@contextmanager
def reading(file: Path, advice: str) -> Iterator[None]:
    """Turn a fault that the block finds in a file into a ValueError of one line with the advice."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        text = str(reason).removeprefix(f"{file} ")
        raise ValueError(f"{file} cannot be read: {text}; {advice}") from error


def read_curve(folder: Path, window: int, target: float) -> Curve:
    """Read a run that has ended, its training loss averaged over `window` steps."""
    run = read_run(folder)
    if run.summary is None:
        raise FileNotFoundError(f"the run in {folder} has not ended; run its sweep again")
    status = run.summary["status"]
    with reading(folder / METRICS, f"remove {folder} and run its sweep again"):
        if not run.steps:
            raise ValueError("the file holds no steps")
        loss = running_mean([line["loss"] for line in run.steps], window)
        rates = [line["effective_lr"] for line in run.steps]
        reached = first_below(loss, target, window)
        kept = thinned(len(loss))
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
            final_loss=loss[-1] if status == "finished" else math.inf,
            best_accuracy=max(accuracy, default=-math.inf),
        )


def _matched_clr(run: RunRecord, loss: Sequence[float]) -> float:
    found = [
        line["loss"] / line["grad_norm"] ** 2
        for line, mean in zip(run.steps, loss, strict=True)
        if 0.5 * loss[0] <= mean <= 0.9 * loss[0] and line["grad_norm"] > 0
    ]
    return statistics.median(found) if found else math.nan


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of the last `window` values at each place, of fewer near the start.

    >>> running_mean([4.0, 2.0, 0.0], 2)
    [4.0, 3.0, 1.0]
    """
    means = []
    # A running sum would keep the rounding errors of one huge loss in all later means.
    for end in range(1, len(values) + 1):
        last = values[max(0, end - window) : end]
        finite = all(map(math.isfinite, last))
        means.append(math.fsum(last) / len(last) if finite else math.inf)
    return means


def first_below(values: Sequence[float], target: float, window: int) -> int | None:
    """Return the number of values until one is below the target, from a full window on."""
    below = (count for count, value in enumerate(values, 1) if count >= window and value < target)
    return next(below, None)


def thinned(count: int) -> list[int]:
    """Return at most about `POINTS` of `count` places: every 2^k-th place, and the last.

    A shorter run keeps a subset of the places of a longer run, so that bands over runs align.

    >>> thinned(3), thinned(POINTS * 2)[:3]
    ([0, 1, 2], [0, 2, 4])
    """
    stride = 2 ** max(0, math.ceil(math.log2(count / POINTS)))
    return sorted({*range(0, count, stride), *range(count - 1, count)})


def spread(values: Sequence[float | None]) -> tuple[float, float, float]:
    """Return minimum, median and maximum; a missing value counts as infinity.

    >>> spread([4.0, 1.0])
    (1.0, 2.5, 4.0)
    """
    numbers = sorted(math.inf if v is None else v for v in values)
    return numbers[0], statistics.median(numbers), numbers[-1]


def band(curves: Sequence[Curve], name: str, at: str = "steps") -> dict[str, list[Any]]:
    """Return median and range over runs of a field of `Curve`, at the shared values of `at`."""
    columns: dict[int, list[float]] = {}
    for curve in curves:
        for x, y in zip(getattr(curve, at), getattr(curve, name), strict=True):
            columns.setdefault(x, []).append(y)
    shared = sorted(x for x, ys in columns.items() if len(ys) == len(curves))
    rows = [spread(columns[x]) for x in shared]
    low, mid, high = ([row[i] for row in rows] for i in range(3))
    return {"x": shared, "low": low, "median": mid, "high": high}

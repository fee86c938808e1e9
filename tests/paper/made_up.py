"""Curves without a run, runs without worker processes, and the kept results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from corridor.paper.curves import Curve
from corridor.paper.figures import figure, unpack
from corridor.paper.results import Results
from corridor.train.loop import train
from corridor.train.sweep.runs import Run

KEPT = Path(__file__).parents[2] / "results"


def curve(steps: int | None, accuracy: float, lr: float, final: float = 0.001) -> Curve:
    """Return a run of two steps.

    Args:
        steps: number of steps until the target.
        accuracy: best test accuracy.
        lr: all step sizes.
        final: last loss (default: 0.001).
    """
    return Curve(
        "finished", [1, 2], [2.3, final], [lr, lr], [2], [accuracy], steps, lr, lr, lr, lr, final,
        accuracy,
    )  # fmt: skip


def load(number: int, folder: Path, scale: str = "laptop") -> Results:
    """Return the kept results of a figure."""
    return figure(number).load(unpack(KEPT / scale, folder)[number])


def sweep(runs: Sequence[Run], out: Path, processes: object = None) -> list[Path]:
    """Train in this process: a worker process would import torch for seconds first."""
    folders = [out / run.name for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        train(run.config, folder, resume=True, progress=False)
    return folders

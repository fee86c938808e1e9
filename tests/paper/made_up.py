"""Curves without a run, and the kept results."""

from __future__ import annotations

from pathlib import Path

from corridor.paper.curves import Curve
from corridor.paper.figures import figure, unpack
from corridor.paper.results import Results

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

"""Which of two settings did better, as far as the ranges over seeds can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from corridor.paper.curves import Curve, spread
from corridor.paper.results import Setting

TIE = "tie"
OVERLAP = "the ranges over seeds overlap"


def order(mine: Sequence[float | None], theirs: Sequence[float | None]) -> int:
    """-1 where every one of my values is below every one of theirs, 1 where above, else 0.

    A missing value, as of a target that was not reached, counts as infinite; against runs that
    never reach it, those that mostly do are below.

    >>> order([1.0, 2.0], [3.0]), order([1.0, 4.0], [3.0]), order([None], [3.0, 4.0])
    (-1, 0, 1)
    """
    a, b = spread(mine), spread(theirs)
    if math.isinf(a[0]) or math.isinf(b[0]):
        return int(a[1] > b[1]) - int(a[1] < b[1])
    return int(a[0] > b[2]) - int(a[2] < b[0])


def values(curves: Sequence[Curve], name: str) -> list[float | None]:
    """One number of each run."""
    return [getattr(curve, name) for curve in curves]


def before_all(ours: Setting, others: Sequence[Setting], name: str) -> tuple[str, str]:
    """Verdict and reason for: ours is lower in a number than every one of the others.

    It holds where all its runs are below all of theirs, does not where another setting's are all
    below its own, and is a tie where neither is so.
    """
    found = [order(values(ours.curves, name), values(o.curves, name)) for o in others]
    if all(sign < 0 for sign in found):
        return "holds", ""
    if any(sign > 0 for sign in found):
        return "does not hold", ""
    return TIE, OVERLAP

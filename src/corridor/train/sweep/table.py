"""Compare the settings of a sweep, each over its seeds."""

import math
import re
import statistics
from collections.abc import Sequence
from operator import itemgetter

from corridor.train.folder.record import Summary

_HEAD = ("setting", "finished", "final loss", "test accuracy")


def comparison(names: Sequence[str], summaries: Sequence[Summary | None]) -> list[str]:
    """Return a table of medians and ranges over the seeds, the lowest final loss first.

    Runs whose names differ only in the seed share a line. Fewer than two runs have no table.

    >>> runs = {"lr-1_seed-0": Summary("finished", final_loss=0.5, final_test_accuracy=0.8),
    ...         "lr-1_seed-1": Summary("finished", final_loss=0.3, final_test_accuracy=0.9),
    ...         "lr-9_seed-0": Summary("diverged", final_loss=7.0)}
    >>> for line in comparison(list(runs), list(runs.values())):
    ...     print(line)
    setting  finished  final loss      test accuracy
    lr-1     2 of 2    0.4 [0.3, 0.5]  85 % [80, 90]
    lr-9     0 of 1    -               -
    """
    settings: dict[str, list[Summary | None]] = {}
    for name, summary in zip(names, summaries, strict=True):
        setting = re.sub(r"(^|_)seed-?\d+(?=_|$)", "", name).lstrip("_") or "all seeds"
        settings.setdefault(setting, []).append(summary)
    if len(names) < 2:
        return []
    rows = sorted((_row(name, found) for name, found in settings.items()), key=itemgetter(0))
    cells = [_HEAD, *(row for _, row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def _row(name: str, found: list[Summary | None]) -> tuple[float, tuple[str, ...]]:
    """Return the sort key and the cells of a setting."""
    well = [s for s in found if s is not None and s.status == "finished"]
    losses = [s.final_loss for s in well if s.final_loss is not None]
    tested = [s.final_test_accuracy for s in well if s.final_test_accuracy is not None]
    cells = (
        name,
        f"{len(well)} of {len(found)}",
        _over_seeds(losses, ""),
        _over_seeds([100.0 * value for value in tested], " %"),
    )
    return statistics.median(losses) if losses else math.inf, cells


def _over_seeds(values: list[float], unit: str) -> str:
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    spread = f" [{low:.3g}, {high:.3g}]" if len(values) > 1 else ""
    return f"{middle:.3g}{unit}{spread}"

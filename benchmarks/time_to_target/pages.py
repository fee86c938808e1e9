"""The tables of time to target in README and docs, from the results that are kept.

python -m benchmarks.time_to_target.pages
"""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TUNED_SGD = "SGD momentum, best of 5 rates"
README, DRIFT = ROOT / "README.md", ROOT / "docs" / "drift.md"
# Page, half, and whether its problems have columns of their own.
PLACES = (
    (README, "held-out", False),
    (DRIFT, "held-out", True),
    (DRIFT, "development", True),
    (DRIFT, "choice", True),
)


def newest(half: str) -> dict[str, Any]:
    """The newest results of a half."""
    files = (ROOT / "benchmarks" / "results").glob(f"time_to_target_{half}_*.json")
    newest = max(files, key=lambda file: json.loads(file.read_text())["environment"]["started"])
    return json.loads(newest.read_text(encoding="utf-8"))


def table(found: dict[str, Any], problems: bool = True) -> str:
    """A row an optimizer, best share first: shares, failures, steps over tuned SGD's, steps.

    Args:
        found: results as `profile` writes them.
        problems: whether every problem has a column.
    """
    steps, shares, quick = (found[k] for k in ("steps", "within_2_steps", "within_2_seconds"))
    names = list(next(iter(steps.values())))
    tuned = steps.get(TUNED_SGD)
    heads = ["", "within 2, steps", "within 2, seconds", "failures"]
    heads += ["steps over tuned SGD's"] if tuned else []
    heads += [n.removeprefix("digits ").removeprefix("CIFAR ") for n in names] if problems else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    failures = {name: sum(v is None for v in row.values()) for name, row in steps.items()}
    for name in sorted(steps, key=lambda n: (-shares[n], failures[n])):
        row = steps[name]
        cells = [name, f"{shares[name]:.0%}", f"{quick[name]:.0%}", str(failures[name])]
        if tuned:
            cells.append(_ratio([_over(row[n], tuned[n]) for n in names]))
        if problems:
            cells += ["–" if row[n] is None else f"{row[n]:.0f}" for n in names]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _over(steps: float | None, tuned: float) -> float:
    return math.inf if steps is None else steps / tuned


def _ratio(ratios: list[float]) -> str:
    """Median, least and most; a dash for a failure."""
    words = [f"{v:.2f}" if math.isfinite(v) else "–"
             for v in (statistics.median(ratios), min(ratios), max(ratios))]  # fmt: skip
    return f"{words[0]} [{words[1]}, {words[2]}]"


def filled(text: str, half: str, made: str) -> str:
    """A page with a table between its marks.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- time to target, {half} -->", f"<!-- end of {half} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"expected {begin!r} and {end!r} once each in the page")
    inside = re.escape(begin) + ".*" + re.escape(end)
    return re.sub(inside, lambda _: f"{begin}\n\n{made}\n\n{end}", text, flags=re.DOTALL)


def main() -> None:
    """Write all tables into their pages."""
    for page, half, problems in PLACES:
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text, half, table(newest(half), problems)), encoding="utf-8")


if __name__ == "__main__":
    main()

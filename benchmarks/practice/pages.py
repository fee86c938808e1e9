"""The tables of docs/practice.md, from the entrants, the problems and the kept results.

python -m benchmarks.practice.pages
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.practice import entrant as entrants
from benchmarks.practice import plan, problem, run_held_out

PAGE = Path(__file__).parents[2] / "docs" / "practice.md"
FAMILIES = {
    "yardstick": "tuned",
    "tuned": "tuned",
    "rival": "package or published setting",
    "paper": "our reading of a paper",
    "ours": "ours",
    "trial": "ours, on trial",
}
OURS = ("ours", "trial")
NONE = "No results are kept yet."
LONG = 4


def newest(half: str, scale: int = 1) -> dict[str, Any] | None:
    """Return the newest results of a half at a number of steps; None if there are none."""
    files = RESULTS.glob(f"practice_{half}_*.json")
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    found = [one for one in found if one["scale"] == scale]
    return max(found, key=lambda one: one["environment"]["started"], default=None)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    lines = [f"| {' | '.join(row)} |" for row in [heads, *rows]]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def ranked(results: Mapping[str, Any]) -> list[str]:
    """Return the entrants, best first: by the share within 5 %, failures, median."""
    summary = results["summary"]

    def place(name: str) -> tuple[Any, ...]:
        one = summary[name]
        return -one["within"], one["failures"], one["median"] or float("inf"), name

    return sorted(summary, key=place)


def number(value: float | None) -> str:
    """Return a ratio in three digits, a dash for a failure."""
    return "–" if value is None else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def who() -> str:
    """Return the table of the entrants."""
    calibrated = plan.calibrated()
    rows = []
    loaded = [entrants.load(name) for name in entrants.names()]
    for one in sorted(loaded, key=lambda one: list(FAMILIES).index(one.family)):
        rates = "" if one.rates is None else "; rates " + ", ".join(f"{r:.3g}" for r in one.rates)
        if one.name in calibrated:
            rates += f" ({calibrated[one.name]:.3g} for all problems)"
        rows.append([one.label, FAMILIES[one.family], one.about + rates])
    return table(["Optimizer", "Kind", "Settings"], rows)


def what(half: str) -> str:
    """Return the table of a half's problems."""
    loaded = [problem.load(half, name) for name in problem.names(half)]
    if not loaded:
        return "No problems yet."
    rows = [
        [one.name, one.kind, f"{one.steps:,}" + (" (and 4 times as many)" if one.long else ""),
         str(one.batch_size), one.about]
        for one in loaded
    ]  # fmt: skip
    return table(["Problem", "Kind", "Steps", "Batch", "What it is"], rows)


def overall(results: Mapping[str, Any] | None) -> str:
    """Return the table of the summaries."""
    if results is None:
        return NONE
    heads = ["Optimizer", "Within 5 %", "Median", "Worst", "Fails on", "Problems", "Time", "Memory"]
    rows = []
    for name in ranked(results):
        one, label = results["summary"][name], results["entrants"][name]["label"]
        costs = [number(one[key]) if key in one else "–" for key in ("seconds", "peak_mb")]
        numbers = [number(one["median"]), number(one["worst"]), str(one["failures"])]
        rows.append([label, f"{one['within']:.0%}", *numbers, str(one["problems"]), *costs])
    return table(heads, rows)


def state(results: Mapping[str, Any] | None) -> str:
    """Return which machine made some results, for which commit, and what is missing."""
    if results is None:
        return NONE
    where = results["environment"]
    text = f"Made on {where['started'][:10]} on {where['cores']} cores of {where['processor']}, "
    text += f"torch {where['torch']}: {len(results['runs']):,} runs."
    if results["missing"]:
        text += f" **{results['missing']:,} runs are missing.**"
    if results["stale"]:
        text += f" {results['stale']:,} runs are older than their problem or optimizer."
    if results["without_yardstick"]:
        text += f" AdamW itself failed on {', '.join(results['without_yardstick'])}."
    return text


def picture(half: str, scale: int, words: str) -> str:
    """Return the pictures of some results; empty if there are none."""
    results = newest(half, scale)
    if results is None or not results["ratios"]:
        return ""
    name = picture_name(half, scale)
    short, detail = f"pictures/{name}.png", f"pictures/{name}-detail.png"
    return f"![{words}]({short})\n\n[The same for each problem, with all seeds]({detail})"


def picture_name(half: str, scale: int) -> str:
    """Return how the pictures of some results are called."""
    return f"practice-{half.replace('_', '-')}" + (f"-{scale}x" if scale > 1 else "")


def section(half: str, scale: int, words: str) -> str:
    """Return pictures, summaries and origin of some results."""
    results = newest(half, scale)
    if results is None:
        return NONE
    return "\n\n".join((picture(half, scale, words), overall(results), state(results)))


def each(results: Mapping[str, Any] | None) -> str:
    """Return the table of all ratios with their lowest and highest seed, a row per optimizer."""
    if results is None:
        return NONE
    names = list(results["yardstick"])
    rows = [["*AdamW's best rate*", *(f"{results['yardstick'][p]['rate']:g}" for p in names)]]
    for name in ranked(results):
        ratios = results["ratios"][name]
        cells = [cell(ratios.get(p)) for p in names]
        rows.append([results["entrants"][name]["label"], *cells])
    return table(["Optimizer", *names], rows)


def cell(one: Mapping[str, Any] | None) -> str:
    """Return a ratio and its interval; empty if it was not run."""
    if one is None:
        return ""
    if one["ratio"] is None:
        return f"fails ({one['failures']} of {one['seeds']})"
    interval = f" [{number(one['low'])}, {number(one['high'])}]" if one["seeds"] > 1 else ""
    return number(one["ratio"]) + interval


def rates(results: Mapping[str, Any] | None) -> str:
    """Return the table of the sensitivity: a row per optimizer and rate."""
    if results is None:
        return NONE
    rows = []
    for name, by_rate in results["sensitivity"].items():
        for rate, one in by_rate.items():
            numbers = [number(one["median"]), number(one["worst"]), str(one["failures"])]
            label = results["entrants"][name]["label"].replace(", tuned", ", cosine")
            rows.append([label, rate, f"{one['within']:.0%}", *numbers])
    return table(["Optimizer", "Rate", "Within 5 %", "Median", "Worst", "Fails on"], rows)


def failures(results: Mapping[str, Any] | None) -> str:
    """Return a list of what fails, our own optimizers first."""
    if results is None:
        return NONE
    lines = []
    family = {name: one["family"] for name, one in results["entrants"].items()}
    for name in sorted(ranked(results), key=lambda name: family[name] not in OURS):
        failed = [p for p, one in results["ratios"][name].items() if one["ratio"] is None]
        far = [p for p, one in results["ratios"][name].items() if (one["ratio"] or 0) > 1.5]
        words = [f"fails on {', '.join(failed)}"] if failed else []
        words += [f"is more than 50 % behind on {', '.join(far)}"] if far else []
        if words:
            lines.append(f"- {results['entrants'][name]['label']} {' and '.join(words)}.")
    return "\n".join(lines) or "No optimizer fails."


def last_run() -> str:
    """Return when the held-out half was run."""
    entries = run_held_out.log()
    if not entries:
        return "The held-out half has not been run."
    one = entries[-1]
    return (
        f"The held-out half was last run on {one['started'][:10]} for commit "
        f"`{str(one['commit'])[:12]}`, with {len(one['entrants'])} optimizers. "
        f"It has been started {len(entries)} times."
    )


def parts() -> dict[str, str]:
    """Return what stands between the marks of the page."""
    development, held = newest("development"), newest("held_out")
    words = "On how many problems each optimizer is as good as tuned AdamW"
    return {
        "optimizers": who(),
        "development problems": what("development"),
        "held-out problems": what("held_out"),
        "failures": failures(development),
        "development": section("development", 1, words),
        "development, each problem": each(development),
        "rates": rates(development),
        "long runs": section("development", LONG, f"{words}, at four times the steps"),
        "long runs, each problem": each(newest("development", LONG)),
        "last run": last_run(),
        "held-out": section("held_out", 1, f"{words}, held-out problems"),
        "held-out, each problem": each(held),
        "held-out long runs": section("held_out", LONG, f"{words}, held out, four times the steps"),
    }


def filled(text: str, found: Mapping[str, str]) -> str:
    """Return a page with its parts between their marks.

    Raises:
        ValueError: the page does not have each mark once.
    """
    for name, made in found.items():
        begin, end = f"<!-- practice: {name} -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"the page must have {begin!r} and {end!r} once each; add them")
        inside = re.escape(begin) + ".*" + re.escape(end)
        put = f"{begin}\n\n{made}\n\n{end}"
        text = re.sub(inside, lambda _, put=put: put, text, flags=re.DOTALL)
    return text


def write() -> None:
    """Write all tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), parts()), encoding="utf-8")


if __name__ == "__main__":
    write()

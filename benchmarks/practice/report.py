"""The report: results as JSON, pictures, and the tables of docs/practice.md.

python -m benchmarks.practice.report --out runs/practice
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import write_results
from benchmarks.practice import entrant as entrants
from benchmarks.practice import plan, problem, records
from benchmarks.practice.run import OUT, Queue, expected

from corridor.train.folder.files import write_json

YARDSTICK = "adamw_cosine"
COLUMNS = "problem,entrant,rate,seed,start,quarter,half,end,accuracy,seconds,peak_mb,failure"
CLOSE = 1.05  # a ratio up to this is as good as the yardstick
FLOOR = 0.01  # share of the first loss, added to both losses: below it a difference is worth little
Record = Mapping[str, Any]
Runs = Mapping[tuple[str, str], Sequence[Record]]  # by entrant and problem
Picked = Mapping[str, Mapping[int, Record]]  # by problem and seed, at one rate


def grouped(found: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """Return records by entrant and problem."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in found:
        groups[record["entrant"], record["problem"]].append(record)
    return groups


def best_rate(runs: Sequence[Record]) -> float | None:
    """Return the rate with the lowest mean final loss, among the rates with the most seeds."""
    losses: dict[float | None, list[float]] = defaultdict(list)
    for record in runs:
        losses[record["rate"]].append(plan.final(record))
    most = max(map(len, losses.values()))
    means = {rate: statistics.fmean(own) for rate, own in losses.items() if len(own) == most}
    return min(means, key=means.__getitem__)


def at_rate(runs: Sequence[Record], rate: float | None) -> dict[int, Record]:
    """Return the runs at a rate by their seeds."""
    return {record["seed"]: record for record in runs if record["rate"] == rate}


def floored(record: Record) -> float:
    """Return the final loss plus a small share of the loss before the first step."""
    return plan.final(record) + FLOOR * record["start"]


def ratio(own: Mapping[int, Record], yardstick: Mapping[int, Record]) -> dict[str, Any] | None:
    """Return the final loss over the yardstick's, both with the floor, seed by seed.

    Returns:
        ``ratio``, the geometric mean over the seeds (None if a run failed), ``low`` and ``high``,
        the lowest and highest seed, ``seeds``, their number, and ``failures``. None without a
        common seed.
    """
    common = sorted(own.keys() & yardstick.keys())
    if not common:
        return None
    each = [floored(own[seed]) / floored(yardstick[seed]) for seed in common]
    good = [value for value in each if math.isfinite(value)]
    failures = len(each) - len(good)
    mean = None if failures else math.exp(statistics.fmean(map(math.log, each)))
    low, high = (min(good), max(good)) if good else (None, None)
    high = None if failures else high
    return {"ratio": mean, "low": low, "high": high, "seeds": len(each), "failures": failures}


def summary(ratios: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return median, worst, share within 5 % and failures over the problems.

    Args:
        ratios: what `ratio` returned, by problem. A failure counts as infinitely bad.
    """
    values = [math.inf if r["ratio"] is None else r["ratio"] for r in ratios.values()]
    return {
        "problems": len(values),
        "median": plain(statistics.median(values)),
        "worst": plain(max(values)),
        "within": sum(value <= CLOSE for value in values) / len(values),
        "failures": sum(r["failures"] > 0 for r in ratios.values()),
    }


def plain(value: float) -> float | None:
    """Return a number that JSON can hold: None for infinity."""
    return value if math.isfinite(value) else None


def costs(own: Picked, yard: Picked) -> dict[str, float]:
    """Return processor time and peak memory over the yardstick's, median over the problems."""
    found: dict[str, float] = {}
    for name in ("seconds", "peak_mb"):
        pairs = [(mean_cost(own[p], name), mean_cost(yard[p], name)) for p in own]
        ratios = [a / b for a, b in pairs if a and b]
        if ratios:
            found[name] = statistics.median(ratios)
    return found


def mean_cost(runs: Mapping[int, Record], name: str) -> float | None:
    """Return the mean of a cost over the runs that did not fail; None if all did."""
    good = [record[name] for record in runs.values() if not record["failure"]]
    return statistics.fmean(good) if good else None


def compare(runs: Runs, rates: Mapping[str, float]) -> dict[str, Any]:
    """Return all ratios and their summaries.

    Args:
        runs: records of one half and one number of steps, by entrant and problem.
        rates: the rates of the entrants that have one for all problems.
    """
    problems = sorted({name for _, name in runs})
    names = sorted({name for name, _ in runs})
    best = {p: best_rate(runs[YARDSTICK, p]) for p in problems if (YARDSTICK, p) in runs}
    yard = {p: at_rate(runs[YARDSTICK, p], rate) for p, rate in best.items()}
    # Without a yardstick there is no ratio.
    yard = {p: own for p, own in yard.items() if all(not r["failure"] for r in own.values())}
    found: dict[str, Any] = {"ratios": {}, "summary": {}, "sensitivity": {}}
    found["without_yardstick"] = [p for p in problems if p not in yard]
    found["yardstick"] = {
        p: {"rate": best[p], "loss": statistics.fmean(map(plan.final, own.values()))}
        for p, own in yard.items()
    }
    for name in names:
        own = {p: runs[name, p] for p in yard if (name, p) in runs}
        picked = {p: at_rate(r, rates.get(name, best_rate(r))) for p, r in own.items()}
        table = over(picked, yard)
        if table:
            for p, one in table.items():
                one["rate"] = next(iter(picked[p].values()))["rate"]
            found["ratios"][name] = table
            found["summary"][name] = summary(table) | costs({p: picked[p] for p in table}, yard)
            by_rate = sensitivity(own, yard)
            found["sensitivity"] |= {name: by_rate} if by_rate else {}
    return found


def over(own: Picked, yard: Picked) -> dict[str, dict[str, Any]]:
    """Return `ratio` by problem, without the problems that have no common seed."""
    found = {p: ratio(runs, yard[p]) for p, runs in own.items()}
    return {p: one for p, one in found.items() if one is not None}


def sensitivity(own: Mapping[str, Sequence[Record]], yard: Picked) -> dict[str, Any]:
    """Return the summary of each rate; empty without rates."""
    rates = sorted({r["rate"] for runs in own.values() for r in runs if r["rate"] is not None})
    tables = {rate: over({p: at_rate(r, rate) for p, r in own.items()}, yard) for rate in rates}
    return {f"{rate:.3g}": summary(table) for rate, table in tables.items() if table}


def described(half: str) -> dict[str, dict[str, Any]]:
    """Return what each problem of a half is."""
    loaded = (problem.load(half, name) for name in problem.names(half))
    fields = ("kind", "steps", "batch_size", "f_star", "about", "long")
    return {one.name: {name: getattr(one, name) for name in fields} for one in loaded}


def who() -> dict[str, dict[str, Any]]:
    """Return label, family, settings and rates of each entrant."""
    loaded = (entrants.load(name) for name in entrants.names())
    fields = ("label", "family", "about", "choice", "rates")
    return {one.name: {name: getattr(one, name) for name in fields} for one in loaded}


def calibration(found: Sequence[Record], half: str, scale: int) -> dict[str, float]:
    """Return the rate of each entrant that has one for all problems.

    The complete development half calibrates it. All other runs use what is kept.
    """
    rates = plan.calibrated()
    if half == "development" and scale == 1:
        losses = plan.finals(found)
        for name in {record["entrant"] for record in found}:
            one = entrants.load(name)
            if one.choice == "one":
                rate = plan.calibrate(half, problem.names(half), one, losses, plan.SEEDS[0])
                rates |= {} if rate is None else {name: rate}
        if rates:
            write_json(plan.CALIBRATED, rates)
    return rates


def missing(found: Sequence[Record], half: str, scale: int) -> int:
    """Return the number of runs that the entrants with records still lack."""
    names = problem.names(half)
    if scale > 1:
        names = [name for name in names if problem.load(half, name).long]
    taking_part = sorted({record["entrant"] for record in found})
    picked = [plan.settled(entrants.load(name), half, scale) for name in taking_part]
    return expected(Queue(half, names, picked, plan.SEEDS, scale, plan.finals(found)))


def report(path: Path, half: str, scale: int) -> dict[str, Any] | None:
    """Write the results of one half at one number of steps; None without records."""
    found = [record for record in records.read(path) if record["scale"] == scale]
    if not found:
        return None
    rates = calibration(found, half, scale)
    old, lack = len(records.stale(found)), missing(found, half, scale)
    print(f"{half}, {scale}x: {len(found)} runs, {lack} missing, {old} of older files")
    results = {
        "half": half, "scale": scale, "missing": lack, "stale": old, "problems": described(half),
        "entrants": who(), "calibrated": rates, **compare(grouped(found), rates),
        "run_columns": COLUMNS, "runs": rows(found),
    }  # fmt: skip
    write_results(theme(half, scale), results)
    return results


def rows(found: Iterable[Record]) -> list[str]:
    """Return one line of CSV per run, with the values of `COLUMNS` in five digits."""
    made = []
    for one in sorted(found, key=lambda r: (r["problem"], r["entrant"], r["rate"] or 0, r["seed"])):
        losses = [*one["losses"], None, None, None][:3]
        accuracy = one["accuracies"][-1] if one["accuracies"] else None
        numbers = [one["rate"], one["seed"], one["start"], *losses, accuracy]
        cells = [
            "" if v is None else f"{v:.5g}" for v in [*numbers, one["seconds"], one["peak_mb"]]
        ]
        words = one["failure"].replace(",", ";").replace("\n", " ")
        made.append(",".join([one["problem"], one["entrant"], *cells, words]))
    return made


def theme(half: str, scale: int) -> str:
    """Return how the files of some results are called."""
    return f"practice_{half}" + (f"_{scale}x" if scale > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the records")
    out = parser.parse_args().out
    for half in problem.HALVES:
        path = out / f"{half}.jsonl"
        for scale in sorted({record["scale"] for record in records.read(path)}):
            report(path, half, scale)
    from benchmarks.practice import pages, pictures

    pictures.draw_all()
    pages.write()


if __name__ == "__main__":
    main()

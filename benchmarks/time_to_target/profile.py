"""Tables, performance profiles and JSON from the runs that are there.

python -m benchmarks.time_to_target.profile --half development --out runs/target
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import write_results
from benchmarks.time_to_target import problems
from benchmarks.time_to_target.optimizers import CHOICES, OPTIMIZERS, TUNED
from benchmarks.time_to_target.pages import TUNED_SGD, table
from benchmarks.time_to_target.run import SEEDS, TARGETS, path_of

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
Scores = dict[str, dict[str, float]]


def read(out: Path, problem: str, optimizer: str) -> list[dict[str, Any]] | None:
    """The runs of all seeds, None if one is missing."""
    paths = [path_of(out, problem, optimizer, seed) for seed in SEEDS]
    if not all(path.exists() for path in paths):
        return None
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def cost(runs: list[dict[str, Any]], what: str) -> float:
    """Mean steps or seconds to the target over the seeds, inf where one did not reach it."""
    if any(run["reached"] is None for run in runs):
        return math.inf
    return statistics.fmean(run["reached" if what == "steps" else "seconds"] for run in runs)


def scores(out: Path, half: str, what: str) -> Scores:
    """Costs by optimizer and problem; tuned SGD as one row, the best of its rates."""
    found: Scores = {}
    for problem in problems.of(half):
        tuned = []
        for optimizer in [*CHOICES, "CLR-Adam"] if half == "choice" else OPTIMIZERS:
            runs = read(out, problem, optimizer)
            if runs is None:
                continue
            if optimizer in TUNED:
                tuned.append(cost(runs, what))
            else:
                found.setdefault(optimizer, {})[problem] = cost(runs, what)
        if tuned:
            found.setdefault(TUNED_SGD, {})[problem] = min(tuned)
    return found


def ratios(found: Scores) -> Scores:
    """Costs over the best untuned optimizer's on each problem."""
    problems = {p for row in found.values() for p in row}
    best = {
        p: min(row[p] for name, row in found.items() if name != TUNED_SGD and p in row)
        for p in problems
    }
    return {
        name: {p: math.inf if math.isinf(c) else c / best[p] for p, c in row.items()}
        for name, row in found.items()
    }


def within(found: Scores, factor: float) -> dict[str, float]:
    """Share of the problems that each solves within a factor of the best."""
    return {
        name: sum(r <= factor for r in row.values()) / len(row)
        for name, row in ratios(found).items()
    }


def draw(by: dict[str, Scores], half: str, path: Path) -> None:
    """Performance profiles: share of problems solved within a factor of the best.

    Ours are thick and dark, tuned SGD black, the rivals thin; an optimizer looks the same in both.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(by), figsize=(13, 7.2), sharey=True)
    shares = within(by["steps"], 2.0)
    order = sorted(shares, key=lambda name: -shares[name])
    looks = _looks(order)
    factors = [2 ** (k / 20) for k in range(81)]
    for axis, (what, found) in zip(axes, by.items(), strict=True):
        profiles = [within(found, factor) for factor in factors]
        for name in order:
            axis.plot(factors, [p[name] for p in profiles], label=name, **looks[name])
        axis.set(xscale="log", xlabel=f"{what} to target / best untuned optimizer's", xlim=(1, 16))
        axis.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="share of problems solved", ylim=(0, 1.02))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=5, fontsize=8, loc="lower center", handlelength=3.5)
    figure.suptitle(f"Time to target, {half} half: none is tuned but SGD")
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _looks(names: list[str]) -> dict[str, dict[str, Any]]:
    """Line styles by optimizer."""
    from matplotlib import colormaps

    dashes = ["-", "--", "-.", ":"]
    ours = [name for name in names if name.startswith("CLR")]
    rivals = [name for name in names if name not in ours and name != TUNED_SGD]
    looks: dict[str, dict[str, Any]] = {TUNED_SGD: {"color": "black", "linewidth": 2.2}}
    for k, name in enumerate(ours):
        color = colormaps["viridis"](0.7 * k / len(ours))
        looks[name] = {"color": color, "linestyle": dashes[k % 4], "linewidth": 2.6}
    for k, name in enumerate(rivals):
        color = colormaps["autumn"](0.8 * k / len(rivals))
        looks[name] = {"color": color, "linestyle": dashes[k % 4], "linewidth": 1.1}
    return looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--half", choices=("development", "held-out", "choice"), default="development"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/target"))
    options = parser.parse_args()
    by = {what: scores(options.out, options.half, what) for what in ("steps", "seconds")}
    accuracies = {
        problem: {
            name: statistics.fmean(run["test_accuracy"] for run in runs)
            for name in OPTIMIZERS
            if (runs := read(options.out, problem, name)) and runs[0]["test_accuracy"] is not None
        }
        for problem in next(iter(by["steps"].values()))
    }
    plain = {
        what: {
            n: {p: None if math.isinf(c) else round(c, 3) for p, c in row.items()}
            for n, row in found.items()
        }
        for what, found in by.items()
    }
    if options.half != "choice":  # its rows are forms of one optimizer
        draw(by, options.half, PICTURES / f"time-to-target-{options.half}.png")
    results = {
        "targets": json.loads(TARGETS.read_text(encoding="utf-8")),
        "seeds": len(SEEDS),
        "within_2_steps": within(by["steps"], 2.0),
        "within_2_seconds": within(by["seconds"], 2.0),
        **plain,
        "test_accuracy": accuracies,
    }
    print(table(results))
    write_results(f"time_to_target_{options.half}", results)


if __name__ == "__main__":
    main()

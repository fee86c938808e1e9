"""The pictures of docs/practice.md: one for ten seconds, one with all detail.

python -m benchmarks.practice.pictures
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.practice.pages import LONG, OURS, newest, picture_name, ranked

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
# Upper end of each class of ratios, its name, its gray, its hatch.
CLASSES = (
    (1.05, "as good (within 5 %)", "#202020", ""),
    (1.25, "up to 25 % worse", "#8a8a8a", ""),
    (math.inf, "worse than that", "#d9d9d9", ""),
    (None, "fails", "#ffffff", "xxxx"),
)
FARTHEST = 2.5  # end of the axis of ratios; what lies beyond has a triangle there


def classes(ratios: Mapping[str, Mapping[str, Any]]) -> list[int]:
    """Return the number of problems in each class."""
    counts = [0] * len(CLASSES)
    for one in ratios.values():
        value = one["ratio"]
        fits = (i for i, (upper, *_) in enumerate(CLASSES) if upper is not None)
        failed = len(CLASSES) - 1
        counts[failed if value is None else next(i for i in fits if value <= CLASSES[i][0])] += 1  # pyright: ignore[reportOperatorIssue]
    return counts


def short(results: Mapping[str, Any]) -> Any:
    """Return the picture for ten seconds: a bar per optimizer, a class per shade."""
    plt = pyplot()
    names = [name for name in ranked(results) if name != "adamw_cosine"][::-1]
    figure, axes = plt.subplots(figsize=(8.5, 1.6 + 0.3 * len(names)), layout="constrained")
    counts = {name: classes(results["ratios"][name]) for name in names}
    for row, name in enumerate(names):
        left, total = 0.0, sum(counts[name])
        for (_, _, gray, hatch), count in zip(CLASSES, counts[name], strict=True):
            width = count / total
            axes.barh(row, width, left=left, color=gray, hatch=hatch, edgecolor="black", lw=0.5)
            left += width
        good = counts[name][0]
        shade = "white" if good else "black"
        axes.text(0.008, row, f"{good} of {total}", va="center", color=shade, fontsize=9)
    labels(axes, results, names)
    shades = [
        plt.Rectangle((0, 0), 1, 1, facecolor=gray, hatch=hatch, edgecolor="black", lw=0.5)
        for _, _, gray, hatch in CLASSES
    ]
    axes.set(xlim=(0, 1), xticks=[], ylim=(-0.6, len(names) - 0.4))
    for side in axes.spines.values():
        side.set_visible(False)
    title = "On how many problems is it as good as AdamW tuned for each problem?"
    axes.set_title("ours in bold", fontsize=9, loc="right")
    figure.suptitle(title, fontsize=13, weight="bold")
    words = [words for _, words, *_ in CLASSES]
    figure.legend(shades, words, loc="outside lower center", ncols=4, frameon=False)
    return figure


def detailed(results: Mapping[str, Any]) -> Any:
    """Return the picture with all detail: a panel per problem, ratio and seeds per optimizer."""
    plt = pyplot()
    names, problems = ranked(results)[::-1], list(results["yardstick"])
    columns = min((4, 5, 6), key=lambda n: -len(problems) % n)  # the fewest empty places
    rows = math.ceil(len(problems) / columns)
    size = (2.2 + 2.5 * columns, 1.0 + rows * (0.6 + 0.19 * len(names)))
    figure, grid = plt.subplots(
        rows, columns, figsize=size, sharey=True, sharex=True, squeeze=False, layout="constrained"
    )
    for axes, problem in zip(grid.flat, problems, strict=False):
        panel(axes, results, names, problem)
    for axes in grid[:, 0]:
        labels(axes, results, names, 7)
    for axes in list(grid.flat)[len(problems) :]:
        axes.set_visible(False)
    what = "final validation loss over that of AdamW tuned for the problem"
    figure.supxlabel(f"{what} (point: mean of the seeds, line: lowest to highest, cross: fails)")
    return figure


def panel(axes: Any, results: Mapping[str, Any], names: list[str], problem: str) -> None:
    """Draw the ratios of one problem."""
    axes.axvline(1, color="black", lw=0.8)
    axes.axvspan(1, 1.05, color="#e8e8e8", lw=0)
    low = 1 / FARTHEST
    for row, name in enumerate(names):
        one = results["ratios"][name].get(problem)
        ours = results["entrants"][name]["family"] in OURS
        if one is None:
            continue
        if one["ratio"] is None:
            axes.plot(FARTHEST, row, marker="x", color="black", ms=5, clip_on=False)
            continue
        value = min(max(one["ratio"], low), FARTHEST)
        marker = ">" if one["ratio"] > FARTHEST else "<" if one["ratio"] < low else "o"
        ends = [min(max(end, low), FARTHEST) for end in (one["low"], one["high"])]
        axes.plot(ends, [row, row], color="#555555", lw=1.2)
        face = "black" if ours else "white"
        axes.plot(value, row, marker=marker, ms=4.5, mec="black", mfc=face, clip_on=False)
    axes.set_xscale("log")
    axes.set(xlim=(low, FARTHEST), ylim=(-0.7, len(names) - 0.3))
    axes.set_xticks([0.5, 0.7, 1, 1.4, 2], ["0.5", "0.7", "1", "1.4", "2"], fontsize=7)
    axes.minorticks_off()
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    axes.grid(axis="y", color="#dddddd", lw=0.4)
    axes.set_axisbelow(True)
    axes.set_title(f"{problem} ({results['problems'][problem]['kind']})", fontsize=8)


def labels(axes: Any, results: Mapping[str, Any], names: list[str], size: float = 9.5) -> None:
    """Write the optimizers' names beside their rows, ours in bold."""
    shown = [results["entrants"][name]["label"] for name in names]
    axes.set_yticks(range(len(names)), shown, fontsize=size)
    axes.tick_params(axis="y", length=0)
    ours = {one["label"] for one in results["entrants"].values() if one["family"] in OURS}
    for text in axes.get_yticklabels():
        if text.get_text() in ours:
            text.set_weight("bold")


def pyplot() -> Any:
    """Return matplotlib's interface, without a window."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def draw_all() -> None:
    """Draw the pictures of all results that are kept."""
    for half, scale in itertools.product(("development", "held_out"), (1, LONG)):
        results, name = newest(half, scale), picture_name(half, scale)
        if results is not None and results["ratios"]:
            save(short(results), FOLDER / f"{name}.png")
            save(detailed(results), FOLDER / f"{name}-detail.png")


def save(figure: Any, path: Path) -> None:
    """Write a picture and release its memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot().close(figure)
    print(f"written: {path.name}")


if __name__ == "__main__":
    draw_all()

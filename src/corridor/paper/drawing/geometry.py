"""The panel of a run's geometry: loss, gradients, corridor numbers, curvature, step sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Lines = Sequence[dict[str, Any]]
ROOM = 0.35

# Name, label, colour, dashes and marker: told apart in colour, in grey and on paper.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
STYLES: list[dict[str, Any]] = [
    {"color": BLUE, "linewidth": 1.8, "dashes": (1, 0)},
    {"color": ORANGE, "linewidth": 1.8, "dashes": (5, 1.5)},
    {"color": GREEN, "linewidth": 1.8, "dashes": (1.5, 1.2)},
    {"color": GREY, "linewidth": 1.6, "dashes": (6, 2, 1.2, 2)},
]


def near_corridor(lines: Lines, level: float) -> list[tuple[float, float]]:
    """Stretches of steps, half a probing interval around each, with 2 rho below the level.

    Example:
        >>> lines = [{"step": 10 * k, "rho": r} for k, r in enumerate([1, 0.1, 0.1, 1, 0.2])]
        >>> near_corridor(lines, 0.5)
        [(5.0, 25.0), (35.0, 40.0)]
    """
    steps = [line["step"] for line in lines]
    stretches: list[tuple[float, float]] = []
    for index, line in enumerate(lines):
        if not 2.0 * line["rho"] < level:
            continue
        begin = (steps[max(index - 1, 0)] + steps[index]) / 2.0
        end = (steps[index] + steps[min(index + 1, len(steps) - 1)]) / 2.0
        if stretches and stretches[-1][1] == begin:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((begin, end))
    return stretches


def draw(lines: Lines, folder: Path, name: str, *, level: float) -> dict[str, str]:
    """Draw six panels over the steps of a run and write PNG and SVG.

    Args:
        lines: probed lines of the metrics, or of ``geometry.jsonl``.
        folder: where the images go.
        name: their name.
        level: stretches with 2 rho below it are shaded.

    Returns:
        The file names by kind.

    Raises:
        ValueError: there are fewer than two lines.
    """
    if len(lines) < 2:
        raise ValueError(f"expected at least two probed steps to draw, got {len(lines)}")
    from corridor.paper.drawing import style as _style

    with _style.new_figure(12.5, 6.6) as figure:
        axes = figure.subplots(2, 3, sharex=True)
        _loss(axes[0, 0], lines)
        _norms(axes[0, 1], lines)
        _corridor_numbers(axes[0, 2], lines, level)
        _secant(axes[1, 0], lines)
        _curvature(axes[1, 1], lines)
        _step_sizes(axes[1, 2], lines)
        for axis in axes.flat:
            for begin, end in near_corridor(lines, level):
                axis.axvspan(begin, end, color="#BBBBBB", alpha=0.35, linewidth=0, zorder=0)
            handles, _ = axis.get_legend_handles_labels()
            if handles:
                _make_room(axis)
                axis.legend(fontsize=8, loc="upper right", ncols=2 if len(handles) > 3 else 1,
                            handlelength=2.4, columnspacing=0.8)  # fmt: skip
            _style.plain_ticks(axis)
        for axis in axes[1]:
            axis.set_xlabel("steps")
        shaded = "shaded" if near_corridor(lines, level) else "none here"
        figure.suptitle(
            f"near-corridor ({shaded}): 2 rho < {level:g}, the gradient changes by less than "
            f"{level:.0%} over a CLR step",
            fontsize=9,
        )
        return _style.save(figure, folder, name)


def _make_room(axis: Any) -> None:
    """Raise the upper end of the axis, so that the legend covers no curve."""
    low, high = axis.get_ylim()
    if axis.get_yscale() == "log":
        axis.set_ylim(low, high * (high / low) ** ROOM)
    elif axis.get_yscale() == "symlog":
        axis.set_ylim(low, high * 5.0)
    else:
        axis.set_ylim(low, high + (high - low) * ROOM)


def _plot(axis: Any, lines: Lines, names: Iterable[tuple[str, str]], scale: str = "log") -> None:
    """Curves by key and label; what is not finite, or not positive on a log axis, is left out."""
    for (key, label), style in zip(names, STYLES, strict=False):
        if key not in lines[0]:
            continue
        values = [line[key] for line in lines]
        kept = [v if math.isfinite(v) and (scale != "log" or v > 0) else math.nan for v in values]
        axis.plot([line["step"] for line in lines], kept, label=label, **style)
    axis.set_yscale("symlog" if scale == "symlog" else scale, **_linear_part(scale))


def _linear_part(scale: str) -> dict[str, Any]:
    return {"linthresh": 0.1} if scale == "symlog" else {}


def _loss(axis: Any, lines: Lines) -> None:
    axis.set(title="Loss of the batch", ylabel="E (nats)")
    _plot(axis, lines, [("loss", "before the step"), ("secant_next_loss", "after the step")])


def _norms(axis: Any, lines: Lines) -> None:
    axis.set(title="Gradient and Hessian times gradient", ylabel="norm")
    squared = [{**line, "grad_norm_sq": line["grad_norm"] ** 2} for line in lines]
    names = [
        ("grad_norm_sq", "||g||²"),
        ("hg_norm", "||Hg||"),
        ("secant_hg_norm", "||secant||, over the step"),
    ]
    _plot(axis, squared, names)


def _corridor_numbers(axis: Any, lines: Lines, level: float) -> None:
    axis.set(title="Corridor numbers of a CLR step", ylabel="rho")
    names = [
        ("rho", "rho"),
        ("rho_parallel", "rho parallel"),
        ("secant_rho", "rho of the secant"),
    ]
    _plot(axis, lines, names, "symlog")
    axis.axhline(level / 2.0, color="black", linewidth=0.8, linestyle=":")
    axis.annotate(
        "near-corridor below", (0.01, level / 2.0), xycoords=("axes fraction", "data"),
        xytext=(0, 2), textcoords="offset points", fontsize=7,
    )  # fmt: skip


def _secant(axis: Any, lines: Lines) -> None:
    axis.set(title="What the step met", ylabel="ratio")
    names = [
        ("secant_decrease", "actual / linear loss decrease"),
        ("secant_smoothness", "||Hg|| / ||secant||"),
        ("cosine", "cos(Hg, g)"),
    ]
    _plot(axis, lines, names, "linear")
    axis.axhline(1.0, color="black", linewidth=0.8, linestyle=":")


def _curvature(axis: Any, lines: Lines) -> None:
    axis.set(title="Curvature", ylabel="loss / length², 1 / length")
    names = [
        ("sharpness", "largest eigenvalue of H"),
        ("sharpness_along_grad", "along g (where positive)"),
        ("curvature", "of the flow line"),
    ]
    _plot(axis, lines, names)


def _step_sizes(axis: Any, lines: Lines) -> None:
    axis.set(title="Step size and stability", ylabel="step size")
    scaled = [dict(line) for line in lines]
    for line in scaled:
        top = line.get("sharpness", math.nan)
        line["one"] = 1.0 / top if top > 0 else math.nan
        line["two"] = 2.0 / top if top > 0 else math.nan
    names = [
        ("effective_lr", "step made"),
        ("two", "2 / largest eigenvalue"),
        ("one", "1 / largest eigenvalue"),
        ("clr", "CLR without a cap"),
    ]
    _plot(axis, scaled, names)

"""Draw the geometry of a run: loss, gradients, corridor numbers, curvature and step sizes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corridor.paper.drawing import style

Lines = Sequence[dict[str, Any]]
ROOM = 0.35
STYLES: list[dict[str, Any]] = [
    {"color": "#0072B2", "linewidth": 1.8, "dashes": (1, 0)},
    {"color": "#D55E00", "linewidth": 1.8, "dashes": (5, 1.5)},
    {"color": "#009E73", "linewidth": 1.8, "dashes": (1.5, 1.2)},
    {"color": "#777777", "linewidth": 1.6, "dashes": (6, 2, 1.2, 2)},
]
# Title, label and scale of the vertical axis, and label of each curve by its key.
PANELS: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("Loss of the batch", "E (nats)", "log",
     {"loss": "before the step", "secant_next_loss": "after the step"}),
    ("Gradient and Hessian times gradient", "norm", "log",
     {"grad_norm_sq": "||g||²", "hg_norm": "||Hg||",
      "secant_hg_norm": "||secant||, over the step"}),
    ("Corridor numbers of a CLR step", "rho", "symlog",
     {"rho": "rho", "rho_parallel": "rho parallel", "secant_rho": "rho of the secant"}),
    ("Over the step", "ratio", "linear",
     {"secant_decrease": "actual / linear loss decrease",
      "secant_smoothness": "||Hg|| / ||secant||", "cosine": "cos(Hg, g)"}),
    ("Curvature", "loss / length², 1 / length", "log",
     {"sharpness": "largest eigenvalue of H", "sharpness_along_grad": "along g (where positive)",
      "curvature": "of the flow line"}),
    ("Step size and stability", "step size", "log",
     {"effective_lr": "step made", "two": "2 / largest eigenvalue",
      "one": "1 / largest eigenvalue", "clr": "CLR without a cap"}),
)  # fmt: skip


def below(line: dict[str, Any], level: float) -> bool:
    """Return True if a step is in a near-corridor: 2 rho is below the level."""
    return 2.0 * line["rho"] < level


def near_corridor(lines: Lines, level: float) -> list[tuple[float, float]]:
    """Return stretches of steps with 2 rho below a level, widened by half a probing interval.

    >>> lines = [{"step": 10 * k, "rho": r} for k, r in enumerate([1, 0.1, 0.1, 1, 0.2])]
    >>> near_corridor(lines, 0.5)
    [(5.0, 25.0), (35.0, 40.0)]
    """
    steps = [line["step"] for line in lines]
    stretches: list[tuple[float, float]] = []
    for index, line in enumerate(lines):
        if not below(line, level):
            continue
        begin = (steps[max(index - 1, 0)] + steps[index]) / 2.0
        end = (steps[index] + steps[min(index + 1, len(steps) - 1)]) / 2.0
        if stretches and stretches[-1][1] == begin:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((begin, end))
    return stretches


def draw(lines: Lines, folder: Path, name: str, *, level: float) -> dict[str, str]:
    """Draw six panels over two or more probed steps, shaded where 2 rho is below the level."""
    if len(lines) < 2:
        raise ValueError(f"lines must hold at least two probed steps, got {len(lines)}")
    stretches = near_corridor(lines, level)
    with style.new_figure(12.5, 6.6) as figure:
        axes = figure.subplots(2, 3, sharex=True)
        derived = [*map(_derived, lines)]
        for axis, (title, label, scale, names) in zip(axes.flat, PANELS, strict=True):
            axis.set(title=title, ylabel=label)
            _plot(axis, derived, names, scale)
        axes[0, 2].axhline(level / 2.0, **style.DOTTED)
        axes[1, 0].axhline(1.0, **style.DOTTED)
        axes[0, 2].annotate(
            "near-corridor below", (0.01, level / 2.0), xycoords=("axes fraction", "data"),
            xytext=(0, 2), textcoords="offset points", fontsize=7,
        )  # fmt: skip
        for axis in axes.flat:
            for begin, end in stretches:
                axis.axvspan(begin, end, color="#BBBBBB", alpha=0.35, linewidth=0, zorder=0)
            _legend(axis)
            style.plain_ticks(axis)
        for axis in axes[1]:
            axis.set_xlabel("steps")
        heading = (
            f"near-corridor ({'shaded' if stretches else 'none here'}): 2 rho < {level:g}, the "
            f"gradient changes by less than {level:.0%} over a CLR step"
        )
        figure.suptitle(heading, fontsize=9)
        return style.save(figure, folder, name)


def _legend(axis: Any) -> None:
    handles, _ = axis.get_legend_handles_labels()
    if not handles:
        return
    # Raise the upper end of the axis, so that the legend covers no curve.
    low, high = axis.get_ylim()
    raised = {
        "log": high * (high / low) ** ROOM if low > 0 else high,
        "symlog": high * 5.0,
        "linear": high + (high - low) * ROOM,
    }
    axis.set_ylim(low, raised[axis.get_yscale()])
    columns = 2 if len(handles) > 3 else 1
    axis.legend(fontsize=8, loc="upper right", ncols=columns, handlelength=2.4, columnspacing=0.8)


def _derived(line: dict[str, Any]) -> dict[str, Any]:
    top = line.get("sharpness", math.nan)
    one = 1.0 / top if top > 0 else math.nan
    return {**line, "grad_norm_sq": line["grad_norm"] ** 2, "one": one, "two": 2.0 * one}


def _plot(axis: Any, lines: Lines, names: dict[str, str], scale: str) -> None:
    for (key, label), look in zip(names.items(), STYLES, strict=False):
        if key not in lines[0]:
            continue
        values = [line[key] for line in lines]
        kept = [v if math.isfinite(v) and (scale != "log" or v > 0) else math.nan for v in values]
        axis.plot([line["step"] for line in lines], kept, label=label, **look)
    axis.set_yscale(scale, **({"linthresh": 0.1} if scale == "symlog" else {}))

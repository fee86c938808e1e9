"""Draw panels of lines with bands, by matplotlib, and by plotly in the report."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from corridor.paper import words
from corridor.paper.curves import band
from corridor.paper.drawing import style
from corridor.paper.drawing.style import Style
from corridor.paper.results import Setting
from corridor.train.folder.files import atomic

Band = dict[str, list[Any]]
# A target further below the curves is not drawn.
NEAR = 10.0


@dataclass(frozen=True)
class Line:
    """Describe a median over seeds with its range.

    Attributes:
        label: text in the legend; lines of one label share an entry.
        look: style of the line.
        values: lists ``x``, ``low``, ``median`` and ``high``.
        diverged: True if all its runs diverged; a cross marks its end (default: False).
    """

    label: str
    look: Style
    values: Band
    diverged: bool = False


@dataclass
class Panel:
    """Describe a pair of axes.

    Attributes:
        title: title above the axes.
        y: label of the vertical axis, with its unit.
        x: label of the horizontal axis (default: steps).
        log: True for a logarithmic vertical axis (default: False).
        log_x: True for a logarithmic horizontal axis (default: False).
        limits: ends of the vertical axis (default: automatic).
        target: height of a dotted line (default: None).
        lines: lines to draw.
    """

    title: str
    y: str
    x: str = "steps"
    log: bool = False
    log_x: bool = False
    limits: tuple[float, float] | None = None
    target: float | None = None
    lines: list[Line] = field(default_factory=list)


def lines(
    settings: Sequence[Setting],
    name: str,
    *,
    styles: Sequence[Style] | None = None,
    at: str = "steps",
    factor: float = 1.0,
    labels: Sequence[str] | None = None,
    per: Sequence[float] | None = None,
) -> list[Line]:
    """Return one line per setting for a quantity of its curves.

    Args:
        settings: settings in the order of the legend.
        name: field of `Curve` to draw.
        styles: one style per setting (default: those of `style.of`).
        at: field of `Curve` that holds the places (default: "steps").
        factor: factor on the quantity (default: 1).
        labels: one label per setting (default: those of `words.label`).
        per: number of steps in a unit of the horizontal axis, per setting (default: 1).
    """
    looks = style.of([s.config for s in settings]) if styles is None else styles
    made = []
    for index, setting in enumerate(settings):
        values = band(setting.curves, name, at=at)
        unit = per[index] if per else 1
        x = [step / unit for step in values.pop("x")]
        values = {"x": x, **{k: [factor * y for y in v] for k, v in values.items()}}
        label = labels[index] if labels else words.label(setting.config)
        made.append(Line(label, looks[index], values, setting.fails_always))
    return made


def loss_panel(
    settings: Sequence[Setting], made: list[Line], target: float, title: str = "Training loss"
) -> Panel:
    """Return the panel of training losses; it shows the target if some curve comes near.

    Args:
        settings: settings of the lines.
        made: lines to draw.
        target: training loss that counts as reached.
        title: title of the panel (default: Training loss).
    """
    curves = [c for s in settings for c in s.curves]
    began = max((c.loss[0] for c in curves if math.isfinite(c.loss[0])), default=1.0)
    lowest = min(c.final_loss for c in curves)
    near = lowest < NEAR * target
    bottom = min(lowest, target) if near else lowest
    # A loss of zero has no place on a logarithmic axis.
    limits = (0.5 * max(bottom, 1e-6), 4 * began)
    return Panel(title, "cross-entropy (nats)", log=True, limits=limits,
                 target=target if near else None, lines=made)  # fmt: skip


def rate_panel(made: list[Line], title: str = "Step size") -> Panel:
    """Return the panel of step sizes, smoothed: step sizes of single steps jump tenfold."""
    smooth = [replace(line, values=smoothed(line.values)) for line in made]
    return Panel(title, "learning rate (running mean of its log)", log=True, lines=smooth)


def smoothed(values: Band) -> Band:
    """Return geometric means over a tenth of the places, of all lists but ``x``.

    Values that are not positive and finite are left out.

    >>> round(smoothed({"x": [0, 1, 2], "median": [1.0, 1000.0, 1.0]})["median"][1], 9)
    10.0
    """
    half = max(1, len(values["x"]) // 20)
    return {
        name: list(some) if name == "x" else _geometric(some, half) for name, some in values.items()
    }


def _geometric(values: Sequence[float], half: int) -> list[float]:
    means = []
    for k in range(len(values)):
        logs = [math.log(v) for v in values[max(0, k - half) : k + half + 1] if 0 < v < math.inf]
        means.append(math.exp(statistics.fmean(logs)) if logs else math.nan)
    return means


def accuracy_panel(made: list[Line], title: str = "Test accuracy") -> Panel:
    """Return the panel of test accuracies in percent, with a mark at each evaluation."""
    made = [replace(line, look={**line.look, "marker": ".", "markersize": 7}) for line in made]
    finite = [y for line in made for y in line.values["high"] if math.isfinite(y)]
    return Panel(title, "correct (%)", limits=(0.0, min(100.5, 1.05 * max(finite, default=100))),
                 lines=made)  # fmt: skip


def of_training(
    settings: Sequence[Setting],
    target: float,
    *,
    styles: Sequence[Style] | None = None,
    labels: Sequence[str] | None = None,
    per: Sequence[float] | None = None,
) -> list[Panel]:
    """Return the panels of training loss, test accuracy and step size.

    Args:
        settings: settings in the order of the legend.
        target: training loss that counts as reached.
        styles: one style per setting (default: those of `style.of`).
        labels: one label per setting (default: those of `words.label`).
        per: number of steps per epoch, per setting; the horizontal axis then shows epochs
            (default: steps).
    """
    common: Any = {"styles": styles, "labels": labels, "per": per}
    accuracy = lines(settings, "test_accuracy", at="test_steps", factor=100.0, **common)
    rate = rate_panel(lines(settings, "effective_lr", **common))
    loss = loss_panel(settings, lines(settings, "loss", **common), target)
    panels = [loss, accuracy_panel(accuracy), rate]
    for panel in panels:
        panel.x = "epochs" if per else "steps"
    return panels


def draw(
    panels: Sequence[Panel], folder: Path, name: str, *, columns: int = 3, heading: str = ""
) -> dict[str, Any]:
    """Draw panels into PNG, SVG and the curves of the report.

    Args:
        panels: panels in reading order.
        folder: folder of the files.
        name: name of the files.
        columns: number of panels side by side (default: 3).
        heading: text above all panels (default: none).

    Returns:
        The fields ``images`` and ``curves`` of the manifest.
    """
    rows = math.ceil(len(panels) / columns)
    width = 4.2 * min(columns, len(panels))
    with style.new_figure(width, 3.6 * rows + 0.9) as figure:
        grid = figure.subplots(rows, min(columns, len(panels)), squeeze=False)
        handles: dict[str, Any] = {}
        for axes, panel in zip(grid.flat, panels, strict=False):
            for text, handle in _axes(axes, panel).items():
                handles.setdefault(text, handle)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        if any(line.diverged for panel in panels for line in panel.lines):
            handles["diverged"] = _cross()
        if heading:
            figure.suptitle(heading, fontsize=11, x=0.01, ha="left")
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center",
            ncols=4 if width > 10 else 3, fontsize=9, handlelength=3.2,
        )  # fmt: skip
        images = style.save(figure, folder, name)
    curves = folder / f"{name}.curves.json"
    with atomic(curves) as file:
        file.write(json.dumps([_plotly(p) for p in panels], separators=(",", ":")).encode())
    return {"images": images, "curves": curves.name}


def _axes(axes: Any, panel: Panel) -> dict[str, Any]:
    handles = {}
    for line in panel.lines:
        style.draw_band(axes, line.values, line.label, line.look)
        ends = [(x, y) for x, y in zip(line.values["x"], line.values["median"], strict=True)
                if math.isfinite(y)]  # fmt: skip
        # Without a cross, a diverged run looks like a run that was stopped early.
        if line.diverged and ends:
            axes.plot(*ends[-1], marker="x", color=line.look["color"], markersize=8, zorder=6,
                      markeredgewidth=2, linestyle="")  # fmt: skip
    if panel.target is not None:
        axes.axhline(panel.target, color="black", linewidth=0.8, linestyle=":")
        axes.annotate("target", (0, panel.target), xytext=(2, 2), textcoords="offset points",
                      fontsize=8)  # fmt: skip
    axes.set(title=panel.title, ylabel=panel.y, xlabel=panel.x)
    if panel.log:
        axes.set_yscale("log")
    if panel.log_x:
        axes.set_xscale("log")
    if panel.limits:
        axes.set_ylim(*panel.limits)
    style.plain_ticks(axes)
    for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
        handles.setdefault(text, handle)
    return handles


def _cross() -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color="black", marker="x", markersize=8, markeredgewidth=2, linestyle="")


def _plotly(panel: Panel) -> dict[str, Any]:
    limits = panel.limits and [math.log10(v) if panel.log else v for v in panel.limits]
    kinds = ["log" if log else "linear" for log in (panel.log_x, panel.log)]
    return {
        "title": panel.title,
        "traces": [t for index, line in enumerate(panel.lines) for t in _traces(index, line)],
        "x": {"title": {"text": panel.x}, "type": kinds[0]},
        "y": {"title": {"text": panel.y}, "type": kinds[1], "range": limits},
        "target": panel.target,
    }


def _traces(index: int, line: Line) -> list[dict[str, Any]]:
    values = {
        k: [v if math.isfinite(v) else None for v in column] for k, column in line.values.items()
    }
    color = line.look["color"]
    color = color if isinstance(color, str) else _hex(color)
    group = {"legendgroup": str(index), "x": values["x"]}
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    dashes = line.look.get("dashes", (1, 0))
    dash = "solid" if dashes[1] == 0 else ",".join(f"{3 * d}px" for d in dashes)
    middle = {
        **group,
        "y": values["median"],
        "name": line.label + (" (diverged)" if line.diverged else ""),
        "mode": "lines+markers" if "marker" in line.look else "lines",
        "line": {"color": color, "width": line.look["linewidth"], "dash": dash},
    }
    # One seed has no range.
    if values["low"] == values["high"]:
        return [middle]
    fill = {"fill": "tonexty", "fillcolor": color + "26"}
    low, high = {**group, **edge, "y": values["low"]}, {**group, **edge, "y": values["high"]}
    return [low, {**high, **fill}, middle]


def _hex(color: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color[:3])

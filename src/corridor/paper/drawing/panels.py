"""Panels of lines with bands, described once: for matplotlib, and for plotly in the report."""

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
from corridor.paper.drawing import style as _style
from corridor.paper.results import Setting
from corridor.train.folder.files import atomic

Band = dict[str, list[Any]]
NEAR = 10.0  # a target further below than this is not drawn


@dataclass(frozen=True)
class Line:
    """A median over seeds with its range.

    Attributes:
        label: for the legend; lines of one label share an entry.
        style: of `_style`.
        values: x, low, median and high.
        diverged: whether all its runs diverged, which a cross at its end marks.
    """

    label: str
    style: dict[str, Any]
    values: Band
    diverged: bool = False


@dataclass
class Panel:
    """A pair of axes.

    Attributes:
        title: above it.
        y: label of the ordinate, with its unit.
        x: label of the abscissa.
        log: whether the ordinate is logarithmic.
        log_x: whether the abscissa is.
        limits: of the ordinate.
        target: a dotted line across, with its name.
        lines: what is drawn.
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
    styles: Sequence[dict[str, Any]],
    *,
    at: str = "steps",
    factor: float = 1.0,
    labels: Sequence[str] | None = None,
    per: Sequence[float] | None = None,
) -> list[Line]:
    """A line for each setting, of one quantity of its curves.

    Args:
        settings: in the legend's order.
        name: of the quantity in `Curve`.
        styles: one a setting.
        at: name of the places it was taken at.
        factor: what it is multiplied by.
        labels: one a setting; those of `words.label` by default.
        per: steps in a unit of the abscissa, one a setting; 1 by default.
    """
    made = []
    for index, setting in enumerate(settings):
        values = band(setting.curves, name, at=at)
        unit = per[index] if per else 1
        x = [step / unit for step in values.pop("x")]
        values = {"x": x, **{k: [factor * y for y in v] for k, v in values.items()}}
        label = labels[index] if labels else words.label(setting.config)
        made.append(Line(label, styles[index], values, all(map(words.diverged, setting.curves))))
    return made


def loss_panel(
    settings: Sequence[Setting], made: list[Line], target: float, title: str = "Training loss"
) -> Panel:
    """Training loss, from below the lowest to above where it began; the target if it is near."""
    curves = [c for s in settings for c in s.curves]
    began = max((c.loss[0] for c in curves if math.isfinite(c.loss[0])), default=1.0)
    lowest = min(c.final_loss for c in curves)
    near = lowest < NEAR * target
    bottom = min(lowest, target) if near else lowest
    limits = (0.5 * max(bottom, 1e-6), 4 * began)
    return Panel(title, "cross-entropy (nats)", log=True, limits=limits,
                 target=target if near else None, lines=made)  # fmt: skip


def rate_panel(made: list[Line], title: str = "Step size") -> Panel:
    """Step sizes, smoothed: those of single steps jump by a factor of ten and hide one another."""
    smooth = [replace(line, values=smoothed(line.values)) for line in made]
    return Panel(title, "learning rate (running mean of its log)", log=True, lines=smooth)


def smoothed(values: Band) -> Band:
    """Geometric means over a tenth of the places, of all but x; what is not above 0 is left out.

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
    """Test accuracy in percent, each evaluation marked."""
    made = [replace(line, style={**line.style, "marker": ".", "markersize": 7}) for line in made]
    finite = [y for line in made for y in line.values["high"] if math.isfinite(y)]
    return Panel(title, "correct (%)", limits=(0.0, min(100.5, 1.05 * max(finite, default=100))),
                 lines=made)  # fmt: skip


def of_training(
    settings: Sequence[Setting],
    styles: Sequence[dict[str, Any]],
    target: float,
    labels: Sequence[str] | None = None,
    per: Sequence[float] | None = None,
) -> list[Panel]:
    """Training loss, test accuracy and step size; over epochs where `per` gives their steps."""
    common: dict[str, Any] = {"styles": styles, "labels": labels, "per": per}
    accuracy = lines(settings, "test_accuracy", at="test_steps", factor=100.0, **common)
    rate = rate_panel(lines(settings, "effective_lr", **common))
    loss = loss_panel(settings, lines(settings, "loss", **common), target)
    panels = [loss, accuracy_panel(accuracy), rate]
    for panel in panels:
        panel.x = "epochs" if per else "steps"
    return panels


def draw(
    panels: Sequence[Panel], folder: Path, name: str, columns: int = 3, heading: str = ""
) -> dict[str, str]:
    """Write PNG, SVG and what the report draws; returns the file names by kind."""
    rows = math.ceil(len(panels) / columns)
    width = 4.2 * min(columns, len(panels))
    with _style.new_figure(width, 3.6 * rows + 0.9) as figure:
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
        images = _style.save(figure, folder, name)
    with atomic(folder / f"{name}.curves.json") as file:
        file.write(json.dumps([_plotly(p) for p in panels], separators=(",", ":")).encode())
    return images


def _axes(axes: Any, panel: Panel) -> dict[str, Any]:
    handles = {}
    for line in panel.lines:
        _style.draw_band(axes, line.values, line.label, line.style, line.style.get("shade", 0.15))
        ends = [(x, y) for x, y in zip(line.values["x"], line.values["median"], strict=True)
                if math.isfinite(y)]  # fmt: skip
        if line.diverged and ends:
            axes.plot(*ends[-1], marker="x", color=line.style["color"], markersize=8, zorder=6,
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
    _style.plain_ticks(axes)
    for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
        handles.setdefault(text, handle)
    return handles


def _cross() -> Any:
    """The legend's entry for what marks the end of runs that diverged."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color="black", marker="x", markersize=8, markeredgewidth=2, linestyle="")


def _plotly(panel: Panel) -> dict[str, Any]:
    """A panel as plotly's traces and axes; what is not finite is left out."""
    traces: list[dict[str, Any]] = []
    for index, line in enumerate(panel.lines):
        values = {k: [_finite(v) for v in vs] for k, vs in line.values.items()}
        colour = line.style["color"]
        colour = colour if isinstance(colour, str) else _hex(colour)
        group = {"legendgroup": str(index), "x": values["x"]}
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        if values["low"] != values["high"]:
            traces.append({**group, **edge, "y": values["low"]})
            fill = {"fill": "tonexty", "fillcolor": colour + "26"}
            traces.append({**group, **edge, **fill, "y": values["high"]})
        dashes = line.style.get("dashes", (1, 0))
        traces.append(
            {
                **group,
                "y": values["median"],
                "name": line.label + (" (diverged)" if line.diverged else ""),
                "mode": "lines+markers" if "marker" in line.style else "lines",
                "line": {
                    "color": colour,
                    "width": line.style["linewidth"],
                    "dash": "solid" if dashes[1] == 0 else ",".join(f"{3 * d}px" for d in dashes),
                },
            }
        )
    limits = panel.limits and [math.log10(v) if panel.log else v for v in panel.limits]
    return {
        "title": panel.title,
        "traces": traces,
        "x": {"title": {"text": panel.x}, "type": "log" if panel.log_x else "linear"},
        "y": {"title": {"text": panel.y}, "type": "log" if panel.log else "linear",
              "range": limits},
        "target": panel.target,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])

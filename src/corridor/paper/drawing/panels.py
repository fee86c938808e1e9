"""Draw panels of lines with bands, by matplotlib, and by plotly in the report."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corridor.paper import words
from corridor.paper.curves import band
from corridor.paper.drawing import style
from corridor.paper.drawing.style import Style
from corridor.paper.results import Setting

Band = dict[str, list[Any]]
Change = Callable[[list[float]], list[float]]
NEAR = 10.0
CROSS: dict[str, Any] = {"marker": "x", "markersize": 8, "markeredgewidth": 2, "linestyle": ""}


@dataclass(frozen=True)
class Line:
    """Describe a median over seeds with its range; a cross marks the end if all runs diverged."""

    label: str
    look: Style
    values: Band
    diverged: bool = False


@dataclass
class Panel:
    """Describe a pair of axes; the target is the height of a dotted line."""

    title: str
    y: str
    lines: Sequence[Line]
    x: str = "steps"
    log: bool = False
    log_x: bool = False
    limits: tuple[float, float] | None = None  # of the vertical axis
    target: float | None = None


@dataclass(frozen=True)
class Curves:
    """Make panels of settings, over epochs if `per` has the number of steps per epoch of each."""

    settings: Sequence[Setting]
    styles: Sequence[Style] | None = None
    labels: Sequence[str] | None = None
    per: Sequence[float] | None = None

    def panels(self, target: float) -> list[Panel]:
        """Return the panels of training loss (with its target), test accuracy and step size."""
        return [self.loss(target), self.accuracy(), self.step_size()]

    def loss(self, target: float, title: str = "Training loss") -> Panel:
        """Return the panel of training losses; it shows the target if some curve comes near."""
        curves = [c for s in self.settings for c in s.curves]
        began = max((c.loss[0] for c in curves if math.isfinite(c.loss[0])), default=1.0)
        lowest = min(c.final_loss for c in curves)
        shown = target if lowest < NEAR * target else None
        # A loss of zero has no place on a logarithmic axis.
        bottom = max(min(lowest, shown or lowest), 1e-6)
        lines, limits = self._lines("loss"), (0.5 * bottom, 4 * began)
        return Panel(
            title, "cross-entropy (nats)", lines, self._x, log=True, limits=limits, target=shown
        )

    def accuracy(self) -> Panel:
        """Return the panel of test accuracies in percent, with a mark at each evaluation."""
        look = {"marker": ".", "markersize": 7}
        lines = self._lines("test_accuracy", lambda ys: [100 * y for y in ys], "test_steps", **look)
        top = max((y for m in lines for y in m.values["high"] if math.isfinite(y)), default=100)
        limits = (0.0, min(100.5, 1.05 * top))
        return Panel("Test accuracy", "correct (%)", lines, self._x, limits=limits)

    def step_size(self, title: str = "Step size") -> Panel:
        """Return the panel of step sizes, smoothed: step sizes of single steps jump tenfold."""
        lines, y = self._lines("effective_lr", _smoothed), "learning rate (running mean of its log)"
        return Panel(title, y, lines, self._x, log=True)

    @property
    def _x(self) -> str:
        return "epochs" if self.per else "steps"

    def _lines(
        self, name: str, change: Change = list, at: str = "steps", **look: Any
    ) -> list[Line]:
        configs = [s.config for s in self.settings]
        looks = self.styles or style.of(configs)
        labels = self.labels or [words.label(config) for config in configs]
        units = self.per or [1] * len(configs)
        made = []
        for setting, label, own, unit in zip(self.settings, labels, looks, units, strict=True):
            values = band(setting.curves, name, at=at)
            shown = {key: change(column) for key, column in values.items()}
            shown["x"] = [step / unit for step in values["x"]]
            made.append(Line(label, {**own, **look}, shown, setting.fails_always))
        return made


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return geometric means over a tenth of the places; only positive finite values count.

    >>> round(_smoothed([1.0, 1000.0, 1.0])[1], 9)
    10.0
    """
    half = max(1, len(values) // 20)
    means = []
    for k in range(len(values)):
        logs = [math.log(v) for v in values[max(0, k - half) : k + half + 1] if 0 < v < math.inf]
        means.append(math.exp(statistics.fmean(logs)) if logs else math.nan)
    return means


def draw(
    panels: Sequence[Panel], folder: Path, name: str, *, columns: int = 3, heading: str = ""
) -> dict[str, Any]:
    """Draw panels into PNG, SVG and the curves of the report; return fields of the manifest."""
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    with style.new_figure(4.2 * columns, 3.6 * rows + 0.9) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        for axes, panel in zip(grid.flat, panels, strict=False):
            for text, handle in _axes(axes, panel).items():
                handles.setdefault(text, handle)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        if any(line.diverged for panel in panels for line in panel.lines):
            from matplotlib.lines import Line2D

            handles["diverged"] = Line2D([], [], color="black", **CROSS)
        if heading:
            figure.suptitle(heading, fontsize=11, x=0.01, ha="left")
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center",
            ncols=4 if columns > 2 else 3, fontsize=9, handlelength=3.2,
        )  # fmt: skip
        images = style.save(figure, folder, name)
    curves = style.save_data([_plotly(p) for p in panels], folder, f"{name}.curves.json")
    return {"images": images, "curves": curves}


def _axes(axes: Any, panel: Panel) -> dict[str, Any]:
    for line in panel.lines:
        x, low, median, high = (line.values[key] for key in ("x", "low", "median", "high"))
        look = {key: value for key, value in line.look.items() if key != "shade"}
        axes.plot(x, median, label=line.label, **look)
        axes.fill_between(
            x, low, high, color=look["color"], alpha=line.look.get("shade", 0.15), linewidth=0,
            zorder=look["zorder"] - 1,
        )  # fmt: skip
        ends = [end for end in zip(x, median, strict=True) if math.isfinite(end[1])]
        # Without a cross, a diverged run looks like a run that was stopped early.
        if line.diverged and ends:
            axes.plot(*ends[-1], color=line.look["color"], zorder=6, **CROSS)
    if panel.target is not None:
        axes.axhline(panel.target, **style.DOTTED)
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
    handles, texts = axes.get_legend_handles_labels()
    return dict(zip(texts, handles, strict=True))


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
    values, color = line.values, line.look["color"]
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
    if values["low"] == values["high"]:
        return [middle]
    fill = {"fill": "tonexty", "fillcolor": color + "26"}
    low, high = {**group, **edge, "y": values["low"]}, {**group, **edge, "y": values["high"]}
    return [low, {**high, **fill}, middle]

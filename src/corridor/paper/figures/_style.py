"""How all figures look: colours that survive greyscale, sizes, and writing them to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers; the dashes tell them apart in grey.
CLR_UNCAPPED: dict[str, Any] = {"color": "#D55E00", "linewidth": 2.4, "zorder": 5}
CLR_CAPPED: dict[str, Any] = {
    "color": "#0072B2",
    "linewidth": 2.0,
    "zorder": 4,
    "dashes": (5, 1.5),
}
DASHES = [(1, 0), (6, 2), (2, 1.2), (6, 2, 1.2, 2), (1, 2.2)]

RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "corridor",
    "figure.dpi": 110,
}


def fixed_rate(index: int, count: int) -> dict[str, Any]:
    """Line style of the index-th of `count` fixed rates: the larger the darker."""
    shade = 0.78 - 0.63 * index / max(count - 1, 1)
    return {
        "color": (shade, shade, shade),
        "linewidth": 1.3,
        "zorder": 2,
        "dashes": DASHES[index % len(DASHES)],
    }


def draw_band(
    axes: Axes, values: dict[str, list[float]], label: str, style: dict[str, Any], shade: float
) -> None:
    """A median as a line and the range over seeds as a shade around it."""
    axes.plot(values["x"], values["median"], label=label, **style)
    axes.fill_between(
        values["x"],
        values["low"],
        values["high"],
        color=style["color"],
        alpha=shade,
        linewidth=0,
        zorder=style["zorder"] - 1,
    )


def save(figure: Figure, folder: Path, name: str) -> dict[str, str]:
    """Write PNG and SVG; returns the file names by kind."""
    names = {"png": f"{name}.png", "svg": f"{name}.svg"}
    figure.savefig(folder / names["png"], dpi=160, bbox_inches="tight")
    figure.savefig(folder / names["svg"], bbox_inches="tight", metadata={"Date": None})
    return names

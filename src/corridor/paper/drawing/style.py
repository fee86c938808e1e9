"""How all figures look: colours that survive greyscale, sizes, and writing them to files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corridor.paper.library import needed
from corridor.train.config import Config
from corridor.train.folder.files import atomic

# Okabe and Ito's palette, told apart by colour-blind readers; the dashes tell them apart in grey.
CLR_UNCAPPED: dict[str, Any] = {"color": "#D55E00", "linewidth": 2.4, "zorder": 5}
CLR_CAPPED: dict[str, Any] = {
    "color": "#0072B2",
    "linewidth": 2.0,
    "zorder": 6,  # over the uncapped line, which it often is
    "dashes": (5, 1.5),
}
SHORT = 1.8  # decades
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


CAP_10: dict[str, Any] = {"color": "#009E73", "linewidth": 2.0, "zorder": 4, "dashes": (3, 1)}
SAFE: dict[str, Any] = {"color": "#CC79A7", "linewidth": 2.0, "zorder": 4, "dashes": (1, 1)}
DRIFT: dict[str, Any] = {"color": "#56B4E9", "linewidth": 2.4, "zorder": 4, "dashes": (2, 0.8)}
HALF: dict[str, Any] = {"color": "#E69F00", "linewidth": 2.0, "zorder": 4, "dashes": (6, 2, 1, 2)}


def of(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """The style of each setting of a figure: the same method looks the same everywhere.

    Fixed rates are greys, the larger the darker.
    """
    rates = sorted({c.lr for c in configs if c.optimizer == "sgd" and c.lr is not None})
    return [_style_of(config, rates) for config in configs]


def _style_of(config: Config, rates: list[float]) -> dict[str, Any]:
    if config.optimizer == "sgd" and config.lr is not None:
        return fixed_rate(rates.index(config.lr), len(rates))
    other = {"sps-safe": SAFE, "half-polyak": HALF}
    if config.optimizer in other:
        return other[config.optimizer]
    if config.drift is not None:
        return DRIFT
    return {math.inf: CLR_UNCAPPED, 10.0: CAP_10}.get(config.lr or 1.0, CLR_CAPPED)


def by_batch(count: int, style: dict[str, Any]) -> list[dict[str, Any]]:
    """Styles of one method at several batch sizes: the larger the darker, dashes of their own."""
    made = []
    for index in range(count):
        light = 0.65 * (1 - (index + 1) / count)
        parts = [int(style["color"][k : k + 2], 16) / 255 for k in (1, 3, 5)]
        colour = tuple((1 - light) * part * 0.9 + light for part in parts)
        made.append({**style, "color": colour, "dashes": DASHES[index % len(DASHES)]})
    return made


def fixed_rate(index: int, count: int) -> dict[str, Any]:
    """Line style of the index-th of `count` fixed rates: the larger the darker."""
    shade = 0.78 - 0.63 * index / max(count - 1, 1)
    return {
        "color": (shade, shade, shade),
        "linewidth": 1.3,
        "zorder": 2,
        "dashes": DASHES[index % len(DASHES)],
        "shade": 0.07,
    }


def draw_band(
    axes: Any, values: dict[str, list[float]], label: str, style: dict[str, Any], shade: float
) -> None:
    """A median as a line and the range over seeds as a shade around it."""
    look = {key: value for key, value in style.items() if key != "shade"}
    axes.plot(values["x"], values["median"], label=label, **look)
    axes.fill_between(
        values["x"],
        values["low"],
        values["high"],
        color=style["color"],
        alpha=shade,
        linewidth=0,
        zorder=style["zorder"] - 1,
    )


@contextmanager
def new_figure(width: float, height: float, layout: Any = "constrained") -> Iterator[Any]:
    """An empty matplotlib figure of so many inches, in the style of all figures."""
    with needed("matplotlib"):
        import matplotlib
        from matplotlib.figure import Figure
    with matplotlib.rc_context(RC):
        yield Figure(figsize=(width, height), layout=layout)


def plain_ticks(axes: Any) -> None:
    """Numbers as people write them on logarithmic axes, and enough of them on short ones."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        if axis.get_scale() != "log":
            continue
        short = math.log10(limits[1] / limits[0]) < SHORT
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if short else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def save(figure: Any, folder: Path, name: str) -> dict[str, str]:
    """Write PNG and SVG, each whole or not at all; returns the file names by kind."""
    options: dict[str, Any] = {"png": {"dpi": 160}, "svg": {"metadata": {"Date": None}}}
    for kind, special in options.items():
        with atomic(folder / f"{name}.{kind}") as file:
            figure.savefig(file, format=kind, bbox_inches="tight", **special)
    return {kind: f"{name}.{kind}" for kind in options}

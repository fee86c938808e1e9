"""Draw figure 1: two panels by matplotlib, and a turning surface for the report."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from corridor.paper.drawing import style
from corridor.train.folder.files import atomic

INK, RED = "#1b1f24", "#D7191C"
COLORS = {
    "gradient flow": "#111111",
    "gradient descent": "#0072B2",
    "heavy ball": "#009E73",
    "CLR": "#D55E00",
}
PANEL_A = ("cone", "concave-cone", "helicoid", "wavy-cone")
VIEWS = {
    "cone": (24, -60),
    "concave-cone": (24, -60),
    "helicoid": (38, -150),
    "wavy-cone": (34, -60),
}


def _array(rows: Any) -> np.ndarray:
    # None becomes NaN.
    return np.array(rows, dtype=float)


def plot(folder: Path, data: dict[str, Any], name: str) -> dict[str, str]:
    """Draw both panels into PNG and SVG, and return their file names by kind.

    Args:
        folder: folder of the images.
        data: numbers of the figure.
        name: name of the images.
    """
    with style.new_figure(13.5, 6.4, layout=None) as figure:
        grid = figure.add_gridspec(
            2, 4, width_ratios=[1, 1, 1.25, 1.25], left=0.005, right=0.995, top=0.93, bottom=0.01,
            wspace=0.0, hspace=0.05,
        )  # fmt: skip
        for index, key in enumerate(PANEL_A):
            axes = figure.add_subplot(grid[index // 2, index % 2], projection="3d")
            _corridor(axes, data["scenes"][key], VIEWS[key])
        _glued(figure.add_subplot(grid[:, 2:], projection="3d"), data)
        for x, text in ((0.01, "(a) individual corridors"), (0.47, "(b) corridors glued together")):
            figure.text(x, 0.96, text, fontsize=12, fontweight="bold")
        return style.save(figure, folder, name)


def _corridor(axes: Any, scene: dict[str, Any], view: tuple[float, float]) -> None:
    mesh = _array(scene["mesh"])
    x, y, z = mesh[..., 0], mesh[..., 1], mesh[..., 2]
    _surface(axes, x, y, z)
    span = np.nanmax(z) - np.nanmin(z)
    for line in scene["lines"]:
        p = _array(line)
        axes.plot(p[:, 0], p[:, 1], p[:, 2] + 0.012 * span, color=INK, linewidth=1.2, zorder=10)
        _arrow(axes, p, span)
    axes.set_title(scene["name"], loc="center", fontsize=10, fontweight="normal", y=0.98)
    _frame(axes, view, (1, 1, 0.75))


def _arrow(axes: Any, p: np.ndarray, span: float) -> None:
    middle = len(p) // 2
    a, b = p[middle - 1], p[middle]
    tail = a + np.array([0.0, 0.0, 0.012 * span])
    look = {"color": INK, "linewidth": 1.2, "arrow_length_ratio": 0.9, "zorder": 11}
    axes.quiver(*tail, *(b - a), **look)


def _glued(axes: Any, data: dict[str, Any]) -> None:
    scene = data["scenes"]["landscape"]
    mesh = _array(scene["mesh"])
    x, y, z = mesh[..., 0], mesh[..., 1], mesh[..., 2]
    _surface(axes, x, y, z)
    for line in scene["lines"]:
        p = _array(line)
        p = p[(np.abs(p[:, :2]) <= 3.0).all(1)]
        axes.plot(p[:, 0], p[:, 1], p[:, 2] + 0.03, color=INK, linewidth=0.8, alpha=0.75, zorder=10)
    red = _array(data["red"]["points"])
    axes.plot(red[:, 0], red[:, 1], red[:, 2] + 0.05, color=RED, linewidth=2.8, zorder=20)
    corners = red[_turns(red)]
    axes.scatter(*corners.T[:2], corners[:, 2] + 0.06, color=RED, s=22, zorder=21, depthshade=False)
    axes.set_xlabel(r"$\theta_1$", labelpad=-4)
    axes.set_ylabel(r"$\theta_2$", labelpad=-4)
    axes.set_zlabel(r"loss $E$", labelpad=-4)
    _frame(axes, (46, -118), (1, 1, 0.52), bare=False)


def _turns(path: np.ndarray) -> list[int]:
    moves = np.diff(path, axis=0)
    sizes = np.linalg.norm(moves, axis=1)
    kept = [i for i in range(len(moves)) if sizes[i] > 1e-3]
    units = {i: moves[i] / sizes[i] for i in kept}
    bends = [b for a, b in pairwise(kept) if units[a] @ units[b] < 0.999]
    return [0, *bends, len(path) - 1]


def _surface(axes: Any, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    # One lightness ramp keeps the surface readable in grey.
    from matplotlib import colormaps
    from matplotlib.colors import LightSource, Normalize

    ramp = Normalize(np.nanmin(z) - 0.35 * np.ptp(z[np.isfinite(z)]), np.nanmax(z))
    light = LightSource(azdeg=300, altdeg=50)
    colors = colormaps["cividis"](ramp(z))
    shade = light.hillshade(np.nan_to_num(z), vert_exag=0.6, fraction=0.7)
    colors[..., :3] = np.clip(colors[..., :3] * (0.72 + 0.4 * shade[..., None]), 0, 1)
    axes.plot_surface(
        x, y, z, facecolors=colors, rcount=z.shape[0], ccount=z.shape[1], linewidth=0,
        antialiased=False, rasterized=True, shade=False,
    )  # fmt: skip


def _frame(axes: Any, view: tuple[float, float], box: tuple[float, ...], bare: bool = True) -> None:
    axes.view_init(*view)
    axes.set_box_aspect(box, zoom=1.22 if bare else 1.12)
    axes.computed_zorder = False
    if bare:
        axes.set_axis_off()
        return
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.fill = False
        axis.set_tick_params(pad=-2, labelsize=8)


def interactive(folder: Path, data: dict[str, Any], name: str) -> str:
    """Write the data of the turning surface, and return the name of the file.

    Args:
        folder: folder of the file.
        data: numbers of the figure.
        name: name of the figure.
    """
    shown = {
        key: {
            "name": scene["name"],
            "mesh": _columns(scene["mesh"]),
            "starts": scene["starts"],
            "paths": scene["paths"],
        }
        for key, scene in data["scenes"].items()
    }
    payload = {"scenes": shown, "colors": COLORS, "first": "landscape"}
    target = folder / f"{name}.interactive.json"
    with atomic(target) as file:
        file.write(json.dumps(payload, separators=(",", ":")).encode())
    return target.name


def _columns(mesh: Any) -> dict[str, Any]:
    return {axis: [[p[i] for p in row] for row in mesh] for i, axis in enumerate("xyz")}

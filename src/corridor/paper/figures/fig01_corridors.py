"""Make figure 1: corridors one by one, and glued together, with lines of steepest descent."""

from pathlib import Path
from typing import Any

import numpy as np

from corridor.paper.drawing import style
from corridor.paper.figure import Claim, Figure, Manifest
from corridor.paper.figures import fig01_scenes

Scenes = dict[str, Any]

INK, RED = "#1b1f24", "#D7191C"
COLORS = {
    "gradient flow": "#111111",
    "gradient descent": "#0072B2",
    "heavy ball": "#009E73",
    "CLR": "#D55E00",
}
# Elevation and azimuth of each individual corridor, in the order of panel a.
VIEWS = {
    "cone": (24, -60),
    "concave-cone": (24, -60),
    "helicoid": (38, -150),
    "wavy-cone": (34, -60),
}


def _describe(figure: Figure[Scenes], data: Scenes) -> Manifest:
    return Manifest(
        number=figure.number,
        title=figure.title,
        caption=(
            "(a) Individual corridors: ruled surfaces of one slope, whose rulings are the lines of "
            "steepest descent (dark). (b) A loss surface glued from a plane, two wavy cones, a "
            "round cone, a trough and a roof. Each is a corridor with another slope. One line of "
            "steepest descent is red: it runs from the hill through "
            f"{len(data['red']['events']) - 1} seams (dots) down to the minimum."
        ),
        images={},
        claims=figure.claims(data),
        columns=["surface", "verdict of the detector", "largest scale-free Hg", "points"],
        rows=[
            [scene["name"], scene["verdict"], f"{scene['hg']:.1e}", str(scene["points"])]
            for scene in data["scenes"].values()
        ],
        notes=[
            "Scale-free Hg: the larger of ‖Hg‖ / (‖H‖ ‖g‖) and the change of g over steps of two "
            "sizes in the same unit, at random points and near them; at most about 1.",
            "An adaptive solver that finds the kinks computes the lines of panel a and the red "
            "line. The other lines of panel b are steps of 0.02, which are exact inside a corridor "
            "and slide along creases.",
        ],
        again=f"corridor figure {figure.number} --out out",
        environment=data["environment"],
    )


def _claims(data: Scenes) -> list[Claim]:
    scenes = data["scenes"].values()
    found = [scene["verdict"] for scene in scenes]
    worst = max(s["deviation"] for s in scenes if s["deviation"] is not None)
    return [
        Claim(
            "Hessian times gradient vanishes on corridors, and on glued corridors off the seams",
            f"{found.count('corridor')} of {len(found)} surfaces are corridors by the detector; "
            f"largest scale-free Hg {max(scene['hg'] for scene in scenes):.1e}",
            "holds" if set(found) == {"corridor"} else "does not hold",
        ),
        Claim(
            "A line of steepest descent of a corridor lifts to a straight line on its surface",
            f"largest distance from the chord {worst:.1e} of its length",
            "holds" if worst < 1e-8 else "does not hold",
        ),
    ]


def _picture(data: Scenes, folder: Path, name: str) -> dict[str, Any]:
    """Draw both panels and write the turning surface; return the fields of the manifest."""
    with style.new_figure(13.5, 6.4, layout=None) as figure:
        grid = figure.add_gridspec(
            2, 4, width_ratios=[1, 1, 1.25, 1.25], left=0.005, right=0.995, top=0.93, bottom=0.01,
            wspace=0.0, hspace=0.05,
        )  # fmt: skip
        for index, (key, view) in enumerate(VIEWS.items()):
            axes = figure.add_subplot(grid[index // 2, index % 2], projection="3d")
            _corridor(axes, data["scenes"][key], view)
        _glued(figure.add_subplot(grid[:, 2:], projection="3d"), data)
        for x, text in ((0.01, "(a) individual corridors"), (0.47, "(b) corridors glued together")):
            figure.text(x, 0.96, text, fontsize=12, fontweight="bold")
        images = style.save(figure, folder, name)
    turning = style.save_data(_turning(data), folder, f"{name}.interactive.json")
    return {"images": images, "interactive": turning}


def _corridor(axes: Any, scene: dict[str, Any], view: tuple[float, float]) -> None:
    span = _surface(axes, scene)
    for line in scene["lines"]:
        p = _line(axes, line, 0.012 * span, color=INK, linewidth=1.2, zorder=10)
        a, b = p[len(p) // 2 - 1 : len(p) // 2 + 1]
        axes.quiver(*a, *(b - a), color=INK, linewidth=1.2, arrow_length_ratio=0.9, zorder=11)
    axes.set_title(scene["name"], loc="center", fontsize=10, fontweight="normal", y=0.98)
    _frame(axes, view, (1, 1, 0.75), zoom=1.22)
    axes.set_axis_off()


def _glued(axes: Any, data: Scenes) -> None:
    scene = data["scenes"]["landscape"]
    _surface(axes, scene)
    for line in scene["lines"]:
        p = np.array(line, dtype=float)
        inside = p[(np.abs(p[:, :2]) <= 3.0).all(1)]
        _line(axes, inside, 0.03, color=INK, linewidth=0.8, alpha=0.75, zorder=10)
    red = _line(axes, data["red"]["points"], 0.05, color=RED, linewidth=2.8, zorder=20)
    axes.scatter(*red[_turns(red)].T, color=RED, s=22, zorder=21, depthshade=False)
    axes.set_xlabel(r"$\theta_1$", labelpad=-4)
    axes.set_ylabel(r"$\theta_2$", labelpad=-4)
    axes.set_zlabel(r"loss $E$", labelpad=-4)
    _frame(axes, (46, -118), (1, 1, 0.52), zoom=1.12)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.fill = False
        axis.set_tick_params(pad=-2, labelsize=8)


def _line(axes: Any, points: Any, lift: float, **look: Any) -> np.ndarray:
    """Draw a line a little above its surface, and return its points."""
    p = np.array(points, dtype=float)
    p[:, 2] += lift
    axes.plot(*p.T, **look)
    return p


def _turns(path: np.ndarray) -> list[int]:
    moves = np.diff(path, axis=0)
    sizes = np.linalg.norm(moves, axis=1)
    kept = np.flatnonzero(sizes > 1e-3)
    units = moves[kept] / sizes[kept, None]
    bends = kept[1:][(units[1:] * units[:-1]).sum(1) < 0.999]
    return [0, *bends, len(path) - 1]


def _surface(axes: Any, scene: dict[str, Any]) -> float:
    """Draw the surface of a scene, and return its height."""
    from matplotlib import colormaps
    from matplotlib.colors import LightSource, Normalize

    x, y, z = np.moveaxis(np.array(scene["mesh"], dtype=float), -1, 0)
    low, high = np.nanmin(z), np.nanmax(z)
    # One lightness ramp keeps the surface readable in gray.
    colors = colormaps["cividis"](Normalize(low - 0.35 * (high - low), high)(z))
    light = LightSource(azdeg=300, altdeg=50)
    shade = light.hillshade(np.nan_to_num(z), vert_exag=0.6, fraction=0.7)
    colors[..., :3] = np.clip(colors[..., :3] * (0.72 + 0.4 * shade[..., None]), 0, 1)
    axes.plot_surface(
        x, y, z, facecolors=colors, rcount=z.shape[0], ccount=z.shape[1], linewidth=0,
        antialiased=False, rasterized=True, shade=False,
    )  # fmt: skip
    return high - low


def _frame(axes: Any, view: tuple[float, float], box: tuple[float, ...], zoom: float) -> None:
    axes.view_init(*view)
    axes.set_box_aspect(box, zoom=zoom)
    axes.computed_zorder = False


def _turning(data: Scenes) -> dict[str, Any]:
    shown = {}
    for key, scene in data["scenes"].items():
        shown[key] = {name: scene[name] for name in ("name", "starts", "paths")}
        axes = np.moveaxis(np.array(scene["mesh"], dtype=float), -1, 0).tolist()
        shown[key]["mesh"] = dict(zip("xyz", axes, strict=True))
    return {"scenes": shown, "colors": COLORS, "first": "landscape"}


FIGURE = Figure(
    number=1, title="Corridors, one by one and glued together",
    gather=lambda plan: fig01_scenes.values(), read=dict, claims=_claims, describe_data=_describe,
    picture=_picture,
)  # fmt: skip

"""Figure 1: corridors one by one, and a surface glued from them, with lines of steepest descent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corridor.paper.figure import Claim, Manifest
from corridor.train.folder.environment import environment
from corridor.train.folder.files import read_json, write_json

NUMBER = 1
TITLE = "Corridors, one by one and glued together"
NAME = "fig01"
DATA = "data.json"
RED_START = (1.2, 1.29)
GLUED = "corridors glued together"
STARTS = 8  # a side of the grid of starts that a reader picks from


def compute(out: Path, scale: str = "demo", seeds: Sequence[int] = (), **overrides: Any) -> Path:
    """Meshes, lines of steepest descent, and paths of four methods from a grid of starts.

    Nothing is trained, and nothing depends on the scale.

    Args:
        out: the data go to ``out/figures/fig01/data.json``.
        scale: not used.
        seeds: not used.
        overrides: not used.

    Returns:
        The figure's folder.
    """
    from corridor.paper.figures.fig01_scenes import scenes

    shown = scenes()
    target = out / "figures" / NAME
    target.mkdir(parents=True, exist_ok=True)
    values = {
        "scenes": {name: _scene(scene) for name, scene in shown.items()},
        "red": _red_line(shown["landscape"].loss),
        "environment": environment(),
    }
    write_json(target / DATA, values)
    return target


def _scene(scene: Any) -> dict[str, Any]:
    from corridor.paper.figures.fig01_scenes import lifted, paths
    from corridor.theory import detect

    lines, deviation = _lines(scene)
    picks = _picks(scene)
    found = detect(scene.loss, scene.loss.sample(12, seed=2))
    return {
        "name": scene.name,
        "mesh": lifted(scene.loss, scene.mesh),
        "lines": [lifted(scene.loss, line) for line in lines],
        "deviation": deviation,
        "starts": lifted(scene.loss, picks),
        "paths": {
            method: lifted(scene.loss, rows.transpose(0, 1))
            for method, rows in paths(scene, picks).items()
        },
        "verdict": found.verdict.value,
        "hg": max(found.crooked, found.secant),
        "points": found.points - found.skipped,
    }


def _lines(scene: Any) -> tuple[list[Any], float | None]:
    """Lines of steepest descent, and their largest distance from a chord on the surface.

    In one corridor they are the gradient flow up to its first kink; on glued surfaces they go on.
    """
    import torch

    from corridor.flows import gradient_flow
    from corridor.paper.figures.fig01_scenes import paths

    if scene.name == GLUED:
        return list(paths(scene, scene.starts)["gradient flow"].transpose(0, 1)), None
    lines, worst = [], 0.0
    for start in scene.starts:
        path = gradient_flow(scene.loss, start, scene.time, dense=True)
        times = torch.linspace(0.0, float(path.times[-1]), 13, dtype=torch.float64)
        line = torch.stack([path.at(float(t)) for t in times])
        with torch.no_grad():
            on = torch.cat([line, scene.loss(line)[:, None]], dim=1)
        chord, away = on[-1] - on[0], on - on[0]
        across = away - torch.outer(away @ chord, chord) / chord.square().sum()
        worst = max(worst, float(across.norm(dim=1).max() / chord.norm()))
        lines.append(line)
    return lines, worst


def _picks(scene: Any) -> Any:
    """Starts that a reader may pick: a grid over the mesh, off kinks."""
    import torch

    low, high = scene.mesh.reshape(-1, 2).amin(0), scene.mesh.reshape(-1, 2).amax(0)
    parts = (torch.arange(STARTS, dtype=torch.float64) + 0.5) / STARTS
    x, y = torch.meshgrid(parts, parts, indexing="ij")
    grid = low + torch.stack([x, y], -1).reshape(-1, 2) * (high - low)
    if scene.name != GLUED:
        grid = grid[grid.norm(dim=1) <= float(high.max())]
    return grid[scene.loss.domain.margin(grid) > 0.02]


def _red_line(loss: Any) -> dict[str, Any]:
    """The line of steepest descent that crosses several corridors, by the adaptive flow."""
    import torch

    from corridor.flows import gradient_flow
    from corridor.paper.figures.fig01_scenes import lifted

    start = torch.tensor(RED_START, dtype=torch.float64)
    path = gradient_flow(lambda x: loss(x), start, 12.0, 1e-7)
    return {
        "points": lifted(loss, path.points),
        "events": [event.time for event in path.events],
        "stopped": path.stopped,
    }


def draw(folder: Path) -> Manifest:
    """Draw both panels, write the images, the interactive page's data and the manifest.

    Raises:
        FileNotFoundError: the data are missing; the message names the command that makes them.
    """
    from corridor.paper.figures import fig01_drawing as _fig01_drawing

    if not (folder / DATA).exists():
        raise FileNotFoundError(f"no {folder / DATA}; make it with: corridor figure {NUMBER}")
    data = read_json(folder / DATA)
    manifest = Manifest(
        number=NUMBER,
        title=TITLE,
        caption=_caption(data),
        images=_fig01_drawing.plot(folder, data, NAME),
        claims=[_claim(data), _lines_claim(data)],
        columns=["surface", "verdict of the detector", "largest scale-free Hg", "points"],
        rows=[
            [scene["name"], scene["verdict"], f"{scene['hg']:.1e}", str(scene["points"])]
            for scene in data["scenes"].values()
        ],
        notes=[
            "Scale-free Hg: the larger of ‖Hg‖ / (‖H‖ ‖g‖) and the change of g over steps of two "
            "sizes in the same unit, at random points and beside them; at most about 1.",
            "The lines of panel a and the red one are the gradient flow by an adaptive solver that "
            "finds the kinks; the others of panel b are followed by steps of 0.02, which are exact "
            "inside a corridor and slide along creases.",
        ],
        again=f"corridor figure {NUMBER} --out out",
        environment=data["environment"],
        interactive=_fig01_drawing.interactive(folder, data, NAME),
    )
    manifest.write(folder)
    return manifest


def _caption(data: dict[str, Any]) -> str:
    red = data["red"]
    return (
        "(a) Individual corridors: ruled surfaces of one slope, whose rulings are the lines of "
        "steepest descent (dark). (b) A loss surface glued from a plane, two wavy cones, a round "
        "cone, a trough and a roof, each a corridor of its own slope; one line of steepest descent "
        f"in red, from the hill through {len(red['events']) - 1} seams (dots) down to the minimum."
    )


def _claim(data: dict[str, Any]) -> Claim:
    verdicts = [scene["verdict"] for scene in data["scenes"].values()]
    worst = max(scene["hg"] for scene in data["scenes"].values())
    return Claim(
        claim="Hessian times gradient vanishes on corridors, and on glued ones off the seams",
        measured=f"{verdicts.count('corridor')} of {len(verdicts)} surfaces are corridors by the "
        f"detector; largest scale-free Hg {worst:.1e}",
        verdict="holds" if set(verdicts) == {"corridor"} else "does not hold",
    )


def _lines_claim(data: dict[str, Any]) -> Claim:
    worst = max(s["deviation"] for s in data["scenes"].values() if s["deviation"] is not None)
    return Claim(
        claim="A line of steepest descent of a corridor lifts to a straight line on its surface",
        measured=f"largest distance from the chord {worst:.1e} of its length",
        verdict="holds" if worst < 1e-8 else "does not hold",
    )

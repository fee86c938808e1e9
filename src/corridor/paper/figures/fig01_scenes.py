"""Compute figure 1: surfaces as meshes, lines of steepest descent, paths of methods."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from corridor import surfaces
from corridor.flows import gradient_flow
from corridor.optim import step_size as rules
from corridor.surfaces import Cone, DistanceTo, Glued, Surface, flower
from corridor.theory import detect
from corridor.train.folder.record import environment

# Steps of this size are exact inside a corridor (theorem 3.1).
FINE = 0.02
EDGE = 3.0
RED_START = (1.2, 1.29)
_spaced = partial(torch.linspace, dtype=torch.float64)
# Number of starts per side of the grid that a reader picks from.
STARTS = 8


@dataclass(frozen=True)
class Scene:
    """Describe a surface by its points [m, k, 2], and paths on it by their starts [s, 2].

    The gradient flow runs for `time`. CLR aims at the loss `aim`, the smallest in the picture.
    Gradient descent makes steps of size `step`.
    """

    name: str
    loss: Surface
    mesh: Tensor
    starts: Tensor
    time: float
    aim: float
    step: float = 0.3


def scenes() -> dict[str, Scene]:
    """Return the individual corridors of panel a, and the glued surface of panel b."""
    wavy = DistanceTo(flower(), absolute=False)
    petals = _spaced(0.02, 2.3, 41)[:, None, None] * flower().point(_spaced(0.0, 2 * torch.pi, 161))
    ring = _spaced(0.0, 2.0 * torch.pi, 13)[:-1]
    return {
        "cone": Scene("convex cone", Cone(), _polar(0.0, 2.4), _circle(2.4, ring), 2.4, 0.0),
        "concave-cone": Scene(
            "concave cone", Cone(-1.0), _polar(0.0, 2.4), _circle(0.15, ring), 2.25, -2.4
        ),
        "helicoid": Scene(
            "tangents of a helix", surfaces.DevelopableHelicoid(0.6), _polar(0.6, 2.6, 0.999),
            _circle(2.6, ring[:-2] - 1.7), 2.5, -1.5,
        ),
        "wavy-cone": Scene("wavy cone", wavy, petals, _off_flower(1.5), 1.5, 0.0, 0.2),
        "landscape": Scene(
            "corridors glued together", surfaces.landscape(), _square(),
            _square(7)[1:-1:2].reshape(-1, 2), 6.0, -0.55, 0.25,
        ),
    }  # fmt: skip


def _polar(inner: float, outer: float, turn: float = 1.0) -> Tensor:
    circle = _circle(1.0, _spaced(-turn * torch.pi, turn * torch.pi, 97))
    return _spaced(inner, outer, 25)[:, None, None] * circle


def _circle(radius: float, angles: Tensor) -> Tensor:
    return radius * torch.stack([angles.cos(), angles.sin()], dim=-1)


def _square(count: int = 161) -> Tensor:
    ticks = _spaced(-EDGE, EDGE, count)
    return torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1)


def _off_flower(distance: float) -> Tensor:
    curve, t = flower(), _spaced(0.0, 1.8 * torch.pi, 10)
    along = torch.nn.functional.normalize(curve.point(t + 1e-5) - curve.point(t - 1e-5))
    normal = torch.stack([along[:, 1], -along[:, 0]], dim=-1)
    outward = torch.where(torch.arange(10)[:, None] % 2 == 0, distance, 0.35 * distance)
    return curve.point(t) + outward * normal


def values() -> dict[str, Any]:
    """Return meshes, lines, paths and verdicts of all scenes as JSON values."""
    shown = scenes()
    loss, start = shown["landscape"].loss, torch.tensor(RED_START, dtype=torch.float64)
    red = gradient_flow(lambda x: loss(x), start, 12.0, 1e-7)
    return {
        "scenes": {name: _values_of(scene) for name, scene in shown.items()},
        "red": {
            "points": _listed(loss, red.points),
            "events": [event.time for event in red.events],
        },
        "environment": environment(),
    }


def _values_of(scene: Scene) -> dict[str, Any]:
    lines, deviation = _lines(scene)
    picks = _picks(scene)
    found = detect(scene.loss, scene.loss.sample(12, seed=2))
    return {
        "name": scene.name,
        "mesh": _listed(scene.loss, scene.mesh),
        "lines": [_listed(scene.loss, line) for line in lines],
        "deviation": deviation,
        "starts": _listed(scene.loss, picks),
        "paths": {
            method: _listed(scene.loss, rows.transpose(0, 1))
            for method, rows in paths(scene, picks).items()
        },
        "verdict": found.verdict.value,
        "hg": max(found.crooked, found.secant),
        "points": found.points - found.skipped,
    }


def _lines(scene: Scene) -> tuple[list[Tensor], float | None]:
    # In one corridor the lines are the gradient flow up to its first kink.
    if isinstance(scene.loss, Glued):
        return list(paths(scene, scene.starts)["gradient flow"].transpose(0, 1)), None
    lines = []
    for start in scene.starts:
        path = gradient_flow(scene.loss, start, scene.time, dense=True)
        times = _spaced(0.0, float(path.times[-1]), 13)
        lines.append(torch.stack([path.at(float(t)) for t in times]))
    return lines, max(_deviation(scene.loss, line) for line in lines)


def _deviation(loss: Surface, line: Tensor) -> float:
    away = _lifted(loss, line)
    away = away - away[0]
    chord = away[-1]
    across = away - torch.outer(away @ chord, chord) / chord.square().sum()
    return float(across.norm(dim=1).max() / chord.norm())


def _picks(scene: Scene) -> Tensor:
    low, high = scene.mesh.reshape(-1, 2).amin(0), scene.mesh.reshape(-1, 2).amax(0)
    parts = (torch.arange(STARTS, dtype=torch.float64) + 0.5) / STARTS
    grid = low + torch.cartesian_prod(parts, parts) * (high - low)
    if not isinstance(scene.loss, Glued):
        grid = grid[grid.norm(dim=1) <= float(high.max())]
    return grid[scene.loss.domain.margin(grid) > 0.02]


def paths(scene: Scene, starts: Tensor) -> dict[str, Tensor]:
    """Return paths [steps + 1, s, 2] of each method; NaN follows the boundary of one corridor."""
    h, steps = scene.step, round(scene.time / scene.step)

    def clr(loss: Tensor, g: Tensor, v: Tensor) -> Tensor:
        return -rules.clr(loss, g.square().sum(-1), f_star=scene.aim)[:, None] * g

    moves: dict[str, tuple[Callable[..., Tensor], int]] = {
        "gradient flow": (lambda loss, g, v: -FINE * g, round(scene.time / FINE)),
        "gradient descent": (lambda loss, g, v: -h * g, steps),
        "heavy ball": (lambda loss, g, v: 0.7 * v - 0.5 * h * g, 2 * steps),
        "CLR": (clr, 4),
    }
    walked = {method: _walk(scene.loss, starts, *made) for method, made in moves.items()}
    walked["gradient flow"] = walked["gradient flow"][:: round(0.1 / FINE)]
    return walked


def _inside(loss: Surface, rows: Tensor) -> Tensor:
    """Return paths with NaN from the first kink of the surface on."""
    # A segment that is shorter than the margins at its two ends together meets no kink.
    with torch.no_grad():
        room = loss.domain.margin(rows)
    length = (rows[1:] - rows[:-1]).norm(dim=-1)
    clear = (length <= room[1:] + room[:-1] + 1e-6).cumprod(0).bool()
    kept = torch.cat([torch.ones_like(clear[:1]), clear])
    return torch.where(kept[..., None], rows, torch.nan)


def _walk(surface: Surface, x: Tensor, move: Callable[..., Tensor], steps: int) -> Tensor:
    rows, v = [x], torch.zeros_like(x)
    for _ in range(steps):
        leaf = rows[-1].detach().requires_grad_()
        loss = surface(leaf)
        (g,) = torch.autograd.grad(loss.sum(), leaf)
        # Where there is no gradient, a path stays.
        v = move(loss.detach(), g.nan_to_num(), v)
        rows.append(rows[-1] + v)
    path = torch.stack(rows)
    return path if isinstance(surface, Glued) else _inside(surface, path)


def _lifted(loss: Surface, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([x, loss(x)[..., None]], dim=-1)


def _listed(loss: Surface, x: Tensor) -> list[Any]:
    """Return points [..., 2] and their losses as rounded nested lists; NaN where undefined."""
    rows = _lifted(loss, x)
    defined = rows.isfinite().all(-1, keepdim=True)
    return torch.where(defined, rows, torch.nan).round(decimals=4).tolist()

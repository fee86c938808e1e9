"""Surfaces of figure 1 as meshes, and paths on them for a reader to choose from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from corridor.optim import step_size as rules
from corridor.surfaces import (
    Cone,
    DevelopableHelicoid,
    DistanceTo,
    Glued,
    Surface,
    flower,
    landscape,
)

FINE = 0.02  # step of the paths that stand for the gradient flow
EDGE = 3.0


@dataclass(frozen=True)
class Scene:
    """A surface to look at.

    Attributes:
        name: for people.
        loss: the surface.
        mesh: points [m, k, 2] that show it.
        starts: where the shown lines of steepest descent begin, [s, 2].
        time: how long they are followed.
        aim: the loss that CLR aims at, the lowest shown.
        step: step size of gradient descent.
    """

    name: str
    loss: Surface
    mesh: Tensor
    starts: Tensor
    time: float
    aim: float
    step: float = 0.3


def scenes() -> dict[str, Scene]:
    """The individual corridors of panel a, and the glued surface of panel b."""
    hill = Cone(-1.0)
    wavy = DistanceTo(flower(), absolute=False)
    ring = torch.arange(12, dtype=torch.float64) * (2.0 * torch.pi / 12.0)
    return {
        "cone": Scene("convex cone", Cone(), _polar(0.0, 2.4), _circle(2.4, ring), 2.4, 0.0),
        "concave-cone": Scene(
            "concave cone", hill, _polar(0.0, 2.4), _circle(0.15, ring), 2.25, -2.4
        ),
        "helicoid": Scene(
            "tangents of a helix",
            DevelopableHelicoid(0.6),
            _polar(0.6, 2.6, 0.999),
            _circle(2.6, ring[:-2] - 1.7),
            2.5,
            -1.5,
        ),
        "wavy-cone": Scene("wavy cone", wavy, _about_flower(), _off_flower(1.5), 1.5, 0.0, 0.2),
        "landscape": Scene(
            "corridors glued together", landscape(), _square(), _square(7)[1:-1:2].reshape(-1, 2),
            6.0, -0.55, 0.25,
        ),
    }  # fmt: skip


def _polar(inner: float, outer: float, turn: float = 1.0) -> Tensor:
    r = torch.linspace(inner, outer, 25, dtype=torch.float64)
    angle = torch.linspace(-turn * torch.pi, turn * torch.pi, 97, dtype=torch.float64)
    return torch.stack([torch.outer(r, angle.cos()), torch.outer(r, angle.sin())], dim=-1)


def _circle(radius: float, angles: Tensor) -> Tensor:
    return radius * torch.stack([angles.cos(), angles.sin()], dim=-1)


def _square(count: int = 161) -> Tensor:
    ticks = torch.linspace(-EDGE, EDGE, count, dtype=torch.float64)
    x, y = torch.meshgrid(ticks, ticks, indexing="xy")
    return torch.stack([x, y], dim=-1)


def _about_flower() -> Tensor:
    """Rays from near the flower's middle through its points and as far again outside."""
    t = torch.linspace(0.0, 2.0 * torch.pi, 161, dtype=torch.float64)
    foot = flower().point(t)
    s = torch.linspace(0.02, 2.3, 41, dtype=torch.float64)
    return s[:, None, None] * foot


def _off_flower(distance: float) -> Tensor:
    """Points at a distance outside the flower, straight above its petals and between them."""
    curve = flower()
    t = torch.arange(10, dtype=torch.float64) * (torch.pi / 5.0)
    ahead, behind = curve.point(t + 1e-5), curve.point(t - 1e-5)
    along = (ahead - behind) / (ahead - behind).norm(dim=-1, keepdim=True)
    normal = torch.stack([along[:, 1], -along[:, 0]], dim=-1)
    outward = torch.where(torch.arange(10)[:, None] % 2 == 0, distance, 0.35 * distance)
    return curve.point(t) + outward * normal


# --- paths of many starts at once ----------------------------------------------------------------


def slopes(loss: Surface, x: Tensor) -> tuple[Tensor, Tensor]:
    """Losses and gradients at points [s, 2]; 0 where the loss has no gradient."""
    leaf = x.detach().requires_grad_()
    value = loss(leaf)
    (g,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), g.nan_to_num()


def paths(scene: Scene, starts: Tensor) -> dict[str, Tensor]:
    """Paths of gradient flow, gradient descent, heavy ball and CLR from many starts.

    The flow is followed by steps of 0.02, which are exact inside a corridor (theorem 3.1). In a
    single corridor paths end where they leave it; on a glued surface they go on, and the flow's
    slide along a crease where two corridors meet at the bottom of a valley.

    Returns:
        [steps + 1, s, 2] by method, NaN past a path's end.
    """
    walked = _paths(scene, starts)
    if not isinstance(scene.loss, Glued):
        walked = {method: _inside(scene.loss, rows) for method, rows in walked.items()}
    walked["gradient flow"] = walked["gradient flow"][:: round(0.1 / FINE)]
    return walked


def _inside(loss: Surface, rows: Tensor) -> Tensor:
    """Paths cut, by NaN, before the first step that may have met a kink.

    A segment no longer than the margins at its two ends together meets none.
    """
    with torch.no_grad():
        room = loss.domain.margin(rows)
    length = (rows[1:] - rows[:-1]).norm(dim=-1)
    clear = (length <= room[1:] + room[:-1] + 1e-6).cumprod(0).bool()
    kept = torch.cat([torch.ones_like(clear[:1]), clear])
    return torch.where(kept[..., None], rows, torch.nan)


def _paths(scene: Scene, starts: Tensor) -> dict[str, Tensor]:
    h, steps = scene.step, round(scene.time / scene.step)
    fine = _walk(scene, starts, lambda g, v, e: -FINE * g, round(scene.time / FINE))
    return {
        "gradient flow": fine,
        "gradient descent": _walk(scene, starts, lambda g, v, e: -h * g, steps),
        "heavy ball": _walk(scene, starts, lambda g, v, e: 0.7 * v - 0.5 * h * g, 2 * steps),
        "CLR": _walk(scene, starts, lambda g, v, e: -_clr(scene, e, g)[:, None] * g, 4),
    }


def _clr(scene: Scene, value: Tensor, g: Tensor) -> Tensor:
    return rules.clr(value, g.square().sum(-1), f_star=scene.aim)


def _walk(scene: Scene, x: Tensor, move: Callable[..., Tensor], steps: int) -> Tensor:
    v = torch.zeros_like(x)
    rows = [x]
    for _ in range(steps):
        value, g = slopes(scene.loss, x)
        v = move(g, v, value)
        x = x + v
        rows.append(x)
    return torch.stack(rows)


def lifted(loss: Surface, x: Tensor) -> list[Any]:
    """Points [..., 2] with their losses as rounded nested lists [..., 3]; null where undefined."""
    with torch.no_grad():
        z = loss(x)
    rows = torch.cat([x, z[..., None]], dim=-1)
    rounded = (rows * 1e4).round() / 1e4
    keep = torch.isfinite(rounded).all(-1)
    return _listed(rounded, keep)


def _listed(rows: Tensor, keep: Tensor) -> list[Any]:
    if rows.dim() == 1:
        return rows.tolist() if bool(keep) else [None, None, None]
    return [_listed(r, k) for r, k in zip(rows, keep, strict=True)]

"""``corridor flow``: a path down a surface, and its distance from the gradient flow, as text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from corridor.flows import (
    TABLES,
    Drift,
    Trajectory,
    clr_descent,
    drift,
    gradient_descent,
    gradient_flow,
    heavy_ball,
    runge_kutta,
)
from corridor.surfaces import SURFACES, Expression, Surface, Verdict, surface

METHODS = ("gradient_flow", "gradient_descent", "clr", "heavy_ball", *TABLES)
ROWS = 12  # of the printed table


@dataclass(frozen=True)
class Told:
    """A surface, a path on it, and how far it got from the gradient flow."""

    loss: Surface
    path: Trajectory
    drift: Drift | None


def follow(
    name: str,
    start: Sequence[float],
    method: str = "gradient_flow",
    *,
    time: float = 1.0,
    step: float = 0.1,
    steps: int = 10,
    momentum: float = 0.9,
    tolerance: float = 1e-9,
) -> Told:
    """Follow a method down a named surface or a formula.

    Args:
        name: of a surface, or an expression such as ``sqrt(x**2 + y**2)``.
        start: coordinates; a matrix's row by row.
        method: one of `METHODS`.
        time: of the gradient flow.
        step: step size of the others.
        steps: how many.
        momentum: of the heavy ball.
        tolerance: of the gradient flow.

    Raises:
        ValueError: there is no such surface or method, or the start does not fit.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    loss = loss_of(name)
    x = _shaped(loss, torch.tensor(list(start), dtype=torch.float64))
    if method == "gradient_flow":
        return Told(loss, gradient_flow(loss, x, time, tolerance), None)
    if method == "gradient_descent":
        path = gradient_descent(loss, x, step, steps)
    elif method == "clr":
        path = clr_descent(loss, x, steps)
    elif method == "heavy_ball":
        path = heavy_ball(loss, x, step, steps, momentum)
    else:
        path = runge_kutta(loss, x, step, steps, method)
    moved = float(path.times[-1]) > 0.0
    return Told(loss, path, drift(path, loss, tolerance=tolerance) if moved else None)


def loss_of(name: str) -> Surface:
    """The surface of a name, or the loss of a formula.

    Raises:
        ValueError: it is neither.
    """
    if name in SURFACES or name.replace("-", "").isidentifier():
        return surface(name)
    return Expression(name)


def _shaped(loss: Surface, x: Tensor) -> Tensor:
    if loss.point_dims == 2:
        rows, columns = int(getattr(loss, "rows", 0)), int(getattr(loss, "columns", 0))
        if x.numel() != rows * columns:
            raise ValueError(
                f"the start needs {rows * columns} numbers, a {rows} x {columns} matrix row by "
                f"row, got {x.numel()}"
            )
        return x.reshape(rows, columns)
    if loss.dimension is not None and x.numel() != loss.dimension:
        raise ValueError(f"the start needs {loss.dimension} numbers, got {x.numel()}")
    return x


def lines(told: Told, name: str) -> list[str]:
    """The table of a path, why it ended, and its distance from the gradient flow."""
    loss, path = told.loss, told.path
    speed = "" if loss.speed is None else f", speed {loss.speed:.6g}"
    least = "" if math.isinf(loss.f_star) else f", f_star {loss.f_star:.6g}"
    verdict = "a formula" if loss.verdict is Verdict.UNDECIDED else loss.verdict.value
    out = [f"{name}: {verdict}{speed}{least}; {path.method}"]
    out += [f"{'time':>12} {'loss':>13}  point"]
    for i in _chosen(len(path)):
        point = " ".join(f"{v:.6g}" for v in path.flat()[i].tolist())
        out.append(f"{float(path.times[i]):12.6g} {float(path.losses[i]):13.6g}  {point}")
    out.append(f"stopped: {path.stopped}; {path.gradients} gradients")
    out += [f"{event.kind} at time {event.time:.9g}" for event in path.events[:5]]
    if told.drift is not None:
        end = float(told.drift.times[-1])
        distance, relative = float(told.drift.distance[-1]), float(told.drift.relative[-1])
        out.append(
            f"distance from the gradient flow at time {end:.6g}: {distance:.3g} "
            f"({relative:.3g} of its length)"
        )
        if end < float(path.times[-1]):
            out.append(f"the gradient flow ends before time {float(path.times[-1]):.6g}")
    return out


def _chosen(length: int) -> list[int]:
    """Up to ROWS indices spread over the path, both ends among them."""
    if length <= ROWS:
        return list(range(length))
    return sorted({round(i * (length - 1) / (ROWS - 1)) for i in range(ROWS)})


def as_json(told: Told, name: str) -> str:
    """All of a path as JSON."""
    path = told.path
    values: dict[str, Any] = {
        "surface": name,
        "verdict": told.loss.verdict.value,
        "method": path.method,
        "stopped": path.stopped,
        "gradients": path.gradients,
        "times": path.times.tolist(),
        "points": path.flat().tolist(),
        "losses": path.losses.tolist(),
        "events": [{"time": event.time, "kind": event.kind} for event in path.events],
    }
    if told.drift is not None:
        values["drift"] = {
            "times": told.drift.times.tolist(),
            "distance": told.drift.distance.tolist(),
        }
    return json.dumps(values, indent=2)

"""Follow a method down a named surface or a formula, and format its path as text or JSON."""

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
class SurfacePath:
    """Store a path on a surface, and its distance from the gradient flow.

    Attributes:
        name: name of the surface, or its formula.
        loss: the surface.
        path: the path.
        drift: distance from the gradient flow. None for the flow itself and for a path at rest.
    """

    name: str
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
) -> SurfacePath:
    """Return the path of a method on a named surface or a formula.

    Args:
        name: key of `corridor.surfaces.SURFACES`, or an expression such as ``sqrt(x**2 + y**2)``.
        start: coordinates. The coordinates of a matrix are listed row by row.
        method: one of `METHODS` (default: "gradient_flow").
        time: duration of the gradient flow, positive (default: 1).
        step: step size of the other methods, positive (default: 0.1).
        steps: number of steps of the other methods (default: 10).
        momentum: momentum of the heavy ball, in [0, 1) (default: 0.9).
        tolerance: relative error allowed in each step of the gradient flow (default: 1e-9).

    Raises:
        ValueError: the surface or the method is unknown, or `start` does not fit the surface.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}; choose one")
    named = name in SURFACES or name.replace("-", "").isidentifier()
    loss = surface(name) if named else Expression(name)
    x = _shaped(loss, torch.tensor(list(start), dtype=torch.float64))
    if method == "gradient_flow":
        return SurfacePath(name, loss, gradient_flow(loss, x, time, tolerance), None)
    if method == "gradient_descent":
        path = gradient_descent(loss, x, step, steps)
    elif method == "clr":
        path = clr_descent(loss, x, steps)
    elif method == "heavy_ball":
        path = heavy_ball(loss, x, step, steps, momentum=momentum)
    else:
        path = runge_kutta(loss, x, step, steps, method=method)
    moved = float(path.times[-1]) > 0.0
    return SurfacePath(name, loss, path, drift(path, loss, tolerance=tolerance) if moved else None)


def _shaped(loss: Surface, x: Tensor) -> Tensor:
    if loss.point_dims == 2:
        rows, columns = int(getattr(loss, "rows", 0)), int(getattr(loss, "columns", 0))
        if x.numel() != rows * columns:
            raise ValueError(
                f"start must have {rows * columns} numbers, got {x.numel()}; "
                f"give a {rows} x {columns} matrix row by row"
            )
        return x.reshape(rows, columns)
    if loss.dimension is not None and x.numel() != loss.dimension:
        raise ValueError(
            f"start must have {loss.dimension} numbers, got {x.numel()}; give all coordinates"
        )
    return x


def as_text(found: SurfacePath) -> str:
    """Return a table of the path, the reason for its end, and its distance from the flow."""
    loss, path = found.loss, found.path
    speed = "" if loss.speed is None else f", speed {loss.speed:.6g}"
    minimum = "" if math.isinf(loss.f_star) else f", f_star {loss.f_star:.6g}"
    verdict = "a formula" if loss.verdict is Verdict.UNDECIDED else loss.verdict.value
    out = [f"{found.name}: {verdict}{speed}{minimum}; {path.method}"]
    out += [f"{'time':>12} {'loss':>13}  point"]
    flats = path.flat().tolist()
    for i in _chosen(len(path)):
        point = " ".join(f"{v:.6g}" for v in flats[i])
        out.append(f"{float(path.times[i]):12.6g} {float(path.losses[i]):13.6g}  {point}")
    out.append(f"stopped: {path.stopped}; {path.gradients} gradients")
    out += [f"{event.kind} at time {event.time:.9g}" for event in path.events[:5]]
    return "\n".join(out + _drift_lines(found))


def _drift_lines(found: SurfacePath) -> list[str]:
    if found.drift is None:
        return []
    end, last = float(found.drift.times[-1]), float(found.path.times[-1])
    distance, relative = float(found.drift.distance[-1]), float(found.drift.relative[-1])
    out = [
        f"distance from the gradient flow at time {end:.6g}: {distance:.3g} "
        f"({relative:.3g} of its length)"
    ]
    return [*out, f"the gradient flow ends before time {last:.6g}"] if end < last else out


def _chosen(length: int) -> list[int]:
    """Return at most ROWS indices spread over the path, both ends included."""
    if length <= ROWS:
        return list(range(length))
    return sorted({round(i * (length - 1) / (ROWS - 1)) for i in range(ROWS)})


def as_json(found: SurfacePath) -> str:
    """Return the whole path as JSON."""
    path = found.path
    values: dict[str, Any] = {
        "surface": found.name,
        "verdict": found.loss.verdict.value,
        "method": path.method,
        "stopped": path.stopped,
        "gradients": path.gradients,
        "times": path.times.tolist(),
        "points": path.flat().tolist(),
        "losses": path.losses.tolist(),
        "events": [{"time": event.time, "kind": event.kind} for event in path.events],
    }
    if found.drift is not None:
        times, distance = found.drift.times.tolist(), found.drift.distance.tolist()
        values["drift"] = {"times": times, "distance": distance}
    return json.dumps(values, indent=2)

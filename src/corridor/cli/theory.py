"""Commands on surfaces and formulas: follow a path, prove a corridor."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import Tensor

    from corridor.flows import Drift, Trajectory
    from corridor.surfaces import Surface

FORMULA = {"allow_extra_args": True, "ignore_unknown_options": True}
ROWS = 12  # of the printed table


@click.command(context_settings=FORMULA)
@click.argument("surface")
@click.option(
    "--start", type=float, required=True, help="Coordinates of the start, as in --start 3 4."
)
@click.option(
    "--method",
    default="gradient_flow",
    show_default=True,
    help="gradient_flow, gradient_descent, clr, heavy_ball, rk4, heun, ...",
)
@click.option("--time", default=1.0, show_default=True, help="Time of the gradient flow.")
@click.option("--step", default=0.1, show_default=True, help="Step size of the other methods.")
@click.option("--steps", default=10, show_default=True, help="Number of steps of these methods.")
@click.option("--momentum", default=0.9, show_default=True, help="Momentum of the heavy ball.")
@click.option(
    "--tolerance", default=1e-9, show_default=True, help="Tolerance of the gradient flow."
)
@click.option("--json", "whole", is_flag=True, help="Print the whole path as JSON.")
@click.pass_context
def flow(
    context: click.Context,
    surface: str,
    start: float,
    method: str,
    time: float,
    step: float,
    steps: int,
    momentum: float,
    tolerance: float,
    whole: bool,
) -> None:
    """Follow a method down a surface, and compare it with the gradient flow.

    SURFACE is a name such as cone, or a formula in x, y, ...
    """
    point = [start, *_numbers(context.args)]
    found = _follow(surface, point, method, time, step, steps, momentum, tolerance)
    print(_as_json(found) if whole else _as_text(found))


def _numbers(words: Sequence[str]) -> list[float]:
    """Return the coordinates that follow the first number of --start."""
    found = []
    for word in words:
        try:
            found.append(float(word))
        except ValueError:
            raise ValueError(
                f"no such option or coordinate: {word}; see corridor flow --help"
            ) from None
    return found


@dataclass(frozen=True)
class _Followed:
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


def _follow(
    name: str,
    start: Sequence[float],
    method: str,
    time: float,
    step: float,
    steps: int,
    momentum: float,
    tolerance: float,
) -> _Followed:
    """Return the path of a method on a named surface or a formula."""
    import torch

    from corridor import flows
    from corridor.surfaces import SURFACES, Expression, surface

    methods = ("gradient_flow", "gradient_descent", "clr", "heavy_ball", *flows.TABLES)
    if method not in methods:
        raise ValueError(f"method must be one of {', '.join(methods)}, got {method!r}; choose one")
    named = name in SURFACES or name.replace("-", "").isidentifier()
    loss = surface(name) if named else Expression(name)
    x = _shaped(loss, torch.tensor(start, dtype=torch.float64))
    if method == "gradient_flow":
        return _Followed(name, loss, flows.gradient_flow(loss, x, time, tolerance), None)
    if method == "gradient_descent":
        path = flows.gradient_descent(loss, x, step, steps)
    elif method == "clr":
        path = flows.clr_descent(loss, x, steps)
    elif method == "heavy_ball":
        path = flows.heavy_ball(loss, x, step, steps, momentum=momentum)
    else:
        path = flows.runge_kutta(loss, x, step, steps, method=method)
    moved = float(path.times[-1]) > 0.0
    return _Followed(
        name, loss, path, flows.drift(path, loss, tolerance=tolerance) if moved else None
    )


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


def _as_text(found: _Followed) -> str:
    """Return a table of the path, the reason for its end, and its distance from the flow."""
    from corridor.surfaces import Verdict

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


def _drift_lines(found: _Followed) -> list[str]:
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


def _as_json(found: _Followed) -> str:
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


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("expression")
@click.option("--domain", multiple=True, help='A condition that holds, such as "x > 0".')
@click.option("--variable", multiple=True, help="A variable, where the formula may have none.")
@click.option("--constant", multiple=True, help="A name that is a constant.")
@click.option("--time-limit", default=20.0, show_default=True, help="Seconds to try for.")
def prove(
    expression: str,
    domain: Sequence[str],
    variable: Sequence[str],
    constant: Sequence[str],
    time_limit: float,
) -> None:
    """Prove or refute that a formula such as "sqrt(x**2 + y**2)" is a corridor.

    Exit status 0: a corridor. 1: not a corridor. 2: undecided, or the formula cannot be read.
    """
    from corridor.surfaces import prove

    found = prove(
        expression,
        list(variable) or None,
        constants=constant,
        domain=list(domain) or None,
        time_limit=time_limit,
    )
    print(found)
    if not found:
        raise click.exceptions.Exit(2 if found.verdict == "undecided" else 1)


COMMANDS = (flow, prove)

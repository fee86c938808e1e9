"""Define commands on surfaces and formulas: follow a path, prove a corridor."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    from torch import Tensor

    from corridor.flows import Drift, Trajectory
    from corridor.surfaces import Surface

METHODS = ("gradient_flow", "gradient_descent", "clr", "heavy_ball")
ROWS = 12
Words: TypeAlias = tuple[str, ...]


@click.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@click.argument("surface")
@click.option("--start", type=float, required=True, help="Coordinates, as in --start 3 4.")
@click.option("--method", default=METHODS[0], help=f"{', '.join(METHODS)}, rk4, heun, ...")
@click.option("--time", default=1.0, help="Time of the gradient flow.")
@click.option("--step", default=0.1, help="Step size of the other methods.")
@click.option("--steps", default=10, help="Number of steps of these methods.")
@click.option("--momentum", default=0.9, help="Momentum of the heavy ball.")
@click.option("--tolerance", default=1e-9, help="Tolerance of the gradient flow.")
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
    from corridor import flows, surfaces

    named = surface in surfaces.SURFACES or surface.replace("-", "").isidentifier()
    formula = all(re.fullmatch(r"[a-z]\d*", part) for part in surface.split("-"))
    loss = surfaces.Expression(surface) if formula or not named else surfaces.surface(surface)
    x = _start(loss, [start, *context.args])
    if method == "gradient_flow":
        path = flows.gradient_flow(loss, x, time, tolerance)
    elif method == "gradient_descent":
        path = flows.gradient_descent(loss, x, step, steps)
    elif method == "clr":
        path = flows.clr_descent(loss, x, steps)
    elif method == "heavy_ball":
        path = flows.heavy_ball(loss, x, step, steps, momentum=momentum)
    elif method in flows.TABLES:
        path = flows.runge_kutta(loss, x, step, steps, method=method)
    else:
        methods = ", ".join((*METHODS, *flows.TABLES))
        raise ValueError(f"method must be one of {methods}, got {method!r}; change it")
    moved = method != "gradient_flow" and float(path.times[-1]) > 0.0
    drift = flows.drift(path, loss, tolerance=tolerance) if moved else None
    print((_as_json if whole else _as_text)(surface, loss, path, drift))


def _start(loss: Surface, words: Sequence[str | float]) -> Tensor:
    """Return the point with the given coordinates, for some surfaces a matrix row by row."""
    import torch

    numbers = []
    for word in words:
        try:
            numbers.append(float(word))
        except ValueError:
            raise ValueError(
                f"no such option or coordinate: {word}; see corridor flow --help"
            ) from None
    shape, advice = (loss.dimension or len(numbers),), "all coordinates"
    if loss.point_dims == 2:
        shape = int(getattr(loss, "rows", 0)), int(getattr(loss, "columns", 0))
        advice = f"a {shape[0]} x {shape[1]} matrix row by row"
    if len(numbers) != math.prod(shape):
        raise ValueError(
            f"start must have {math.prod(shape)} numbers, got {len(numbers)}; give {advice}"
        )
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


def _as_text(name: str, loss: Surface, path: Trajectory, drift: Drift | None) -> str:
    """Return a table of the path, the reason for its end, and its distance from the flow."""
    from corridor.surfaces import Verdict

    speed = "" if loss.speed is None else f", speed {loss.speed:.6g}"
    minimum = "" if math.isinf(loss.f_star) else f", f_star {loss.f_star:.6g}"
    verdict = "a formula" if loss.verdict is Verdict.UNDECIDED else loss.verdict.value
    out = [f"{name}: {verdict}{speed}{minimum}; {path.method}"]
    out += [f"{'time':>12} {'loss':>13}  point"]
    flats, last = path.flat().tolist(), len(path) - 1
    for i in sorted({round(k * last / (ROWS - 1)) for k in range(ROWS)}):
        point = " ".join(f"{v:.6g}" for v in flats[i])
        out.append(f"{float(path.times[i]):12.6g} {float(path.losses[i]):13.6g}  {point}")
    out.append(f"stopped: {path.stopped}; {path.gradients} gradients")
    out += [f"{event.kind} at time {event.time:.9g}" for event in path.events[:5]]
    if drift is not None:
        end, last = float(drift.times[-1]), float(path.times[-1])
        distance, relative = float(drift.distance[-1]), float(drift.relative[-1])
        out += [
            f"distance from the gradient flow at time {end:.6g}: {distance:.3g} "
            f"({relative:.3g} of its length)"
        ]
        if end < last:
            out += [f"the gradient flow ends before time {last:.6g}"]
    return "\n".join(out)


def _as_json(name: str, loss: Surface, path: Trajectory, drift: Drift | None) -> str:
    values: dict[str, Any] = {
        "surface": name,
        "verdict": loss.verdict.value,
        "method": path.method,
        "stopped": path.stopped,
        "gradients": path.gradients,
        "times": path.times.tolist(),
        "points": path.flat().tolist(),
        "losses": path.losses.tolist(),
        "events": [{"time": event.time, "kind": event.kind} for event in path.events],
    }
    if drift is not None:
        values["drift"] = {k: getattr(drift, k).tolist() for k in ("times", "distance")}
    return json.dumps(values, indent=2)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("expression")
@click.option("--domain", multiple=True, help='A condition that holds, such as "x > 0".')
@click.option("--variable", multiple=True, help="A variable, where the formula may have none.")
@click.option("--constant", "constants", multiple=True, help="A name that is a constant.")
@click.option("--time-limit", default=20.0, help="Seconds to try for.")
def prove(
    expression: str, domain: Words, variable: Words, constants: Words, time_limit: float
) -> None:
    """Prove or refute that a formula such as "sqrt(x**2 + y**2)" is a corridor.

    Exit status 0: a corridor. 1: not a corridor. 2: undecided, or the formula cannot be read.
    """
    from corridor.surfaces import prove

    found = prove(
        expression, variable or None, domain=domain, constants=constants, time_limit=time_limit
    )
    print(found)
    if not found:
        raise click.exceptions.Exit(2 if found.verdict == "undecided" else 1)

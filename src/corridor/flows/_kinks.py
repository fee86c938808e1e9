"""How a flow meets kinks: it goes on through them, or ends there.

At a kink of a continuous loss the gradient jumps along the kink's normal. Where the velocities on
both sides point the same way along it, the flow goes on; where they point at each other it cannot,
and would slide along the kink, unless it has come to a minimum (Filippov, 1988, "Differential
Equations with Discontinuous Righthand Sides").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corridor.flows._solver import Solver

NEAR = 1e-10  # how near to a kink, in units of the start's size, the flow is taken before it jumps
SHORT = 1e4  # steps up to so many tolerances long may have been held up by a kink
TINY_STEPS = 64
JUMP = 0.05  # relative change of the gradient within a short step that makes it suspect


@dataclass(frozen=True)
class Met:
    """A kink or an edge: when, which, and why the flow ends there if it does."""

    time: float
    kind: str
    stopped: str = ""


def advance(solver: Solver) -> Met | None:
    """One step of the flow, and what it met at its end."""
    room = solver.flat_loss.margin(solver.point())
    if room is not None:
        return _advance_with_room(solver, room)
    before, x = solver.velocity(), solver.point()
    solver.step()
    after = solver.velocity()
    moved = float((solver.point() - x).norm())
    short = moved <= SHORT * solver.tolerance * (solver.scale + float(x.norm()))
    if short and _jumps(before, after):
        return _suspect(solver, x, before)
    return None


def _jumps(one: Tensor, other: Tensor) -> bool:
    larger = max(float(one.norm()), float(other.norm()))
    return float((one - other).norm()) > JUMP * larger


# --- with a known margin -------------------------------------------------------------------------


def _advance_with_room(solver: Solver, room: float) -> Met | None:
    """A step that stays inside the ball without kinks; at its edge, the jump over the kink."""
    near = NEAR * solver.scale
    speed = float(solver.velocity().norm())
    begun, x = solver.time, solver.point()
    inside = 0.9 * room / speed if speed > 0.0 else float("inf")
    graze = solver.grazing
    longest = inside if graze is None else max(inside, 0.9 * graze)
    while True:
        solver.step(longest)
        if float((solver.point() - x).norm()) <= room or _falls_as_square(solver, begun, room):
            break
        longest = min(inside, longest / 4.0)  # it sped up and may have left the ball: go back
        solver.restart(begun, x, longest)
    after = solver.flat_loss.margin(solver.point())
    assert after is not None
    taken = solver.time - begun
    _note_grazing(solver, room, after, taken)
    if not after <= near or not room > after:
        return None
    wait = after * taken / (room - after)
    return _jump(solver, wait if solver.grazing is None else solver.grazing, begun)


def _falls_as_square(solver: Solver, begun: float, room: float) -> bool:
    """Whether the room falls along the last step as it does before a kink met at a tangent."""
    if solver.grazing is None:
        return False
    piece, taken = solver.interpolant(), solver.time - begun
    for eighth in range(1, 9):
        part = eighth / 8.0 * taken
        found = solver.flat_loss.margin(solver.read(piece, begun + part))
        expected = room * (1.0 - part / solver.grazing) ** 2
        if found is None or not 0.7 * expected <= found <= 1.4 * expected:
            return False
    return True


def _note_grazing(solver: Solver, before: float, after: float, taken: float) -> None:
    """Note how long until a kink that is met at a tangent, where room falls as a square.

    The balls shrink as fast as the way that is left then, and without this the flow would take
    ever shorter steps.
    """
    slow = 0.0 < after < before < after / 0.75
    solver.slow_steps = solver.slow_steps + 1 if slow else 0
    grazes = solver.slow_steps >= 10 or solver.grazing is not None
    falls = 0.0 < after < before
    root = after**0.5 if falls else 0.0
    solver.grazing = root * taken / (before**0.5 - root) if grazes and falls else None


def _jump(solver: Solver, wait: float, before_time: float) -> Met | None:
    """Look at the other side of a kink ahead, which is met after so much more time."""
    x, v = solver.point(), solver.velocity()
    met = solver.time + wait
    if met >= solver.end:
        solver.restart(solver.end, x + (solver.end - solver.time) * v)
        return Met(met, "kink", "time")
    beyond = x + 2.0 * wait * v
    room = solver.flat_loss.margin(beyond)
    value = solver.flat_loss.number(beyond)
    fall = 10.0 * float(v.norm()) * float((beyond - x).norm())
    torn = abs(value - solver.flat_loss.number(x)) > fall + 1e-9 * abs(value)
    if (room is not None and room < 0.0) or value != value or torn:
        _finish(solver, met, x + wait * v, before_time)
        return Met(met, "exit", "left the domain")
    return _cross(solver, met, x + wait * v, beyond, v, before_time)


# --- without -------------------------------------------------------------------------------------


def _suspect(solver: Solver, x: Tensor, v: Tensor) -> Met | None:
    """The kink within the last step, if its jump stays when the step is halved again and again."""
    low, high = 0.0, 1.0
    end, time = solver.point(), solver.time
    low_v, high_v = v, solver.velocity()
    total = float((high_v - low_v).norm())
    for halving in range(20):
        middle = 0.5 * (low + high)
        middle_v = solver.field(x + middle * (end - x))
        if float((middle_v - low_v).norm()) < float((high_v - middle_v).norm()):
            low, low_v = middle, middle_v
        else:
            high, high_v = middle, middle_v
        if halving >= 2 and float((high_v - low_v).norm()) < 0.5 * total:
            return None
    begun = time - solver.last_step
    met = begun + high * float((end - x).norm()) / float(v.norm())
    return _cross(solver, met, x + high * (end - x), x + high * (end - x), low_v, begun, high_v)


# --- both ----------------------------------------------------------------------------------------


def _cross(
    solver: Solver,
    met: float,
    kink: Tensor,
    beyond: Tensor,
    v: Tensor,
    begun: float,
    after: Tensor | None = None,
) -> Met | None:
    """Go on beyond the kink if the velocity there leads away from it, else end on it."""
    w = solver.field(beyond) if after is None else after
    if not torch.isfinite(w).all():
        _finish(solver, met, kink, begun)
        return Met(met, "exit", "left the domain")
    normal = v - w
    if float(w.norm()) <= 1e-12 * float(v.norm()):
        _finish(solver, met, kink, begun)
        return Met(met, "kink", "minimum")
    same = float(normal.norm()) <= 1e-9 * float(v.norm())
    if same or float((v @ normal) * (w @ normal)) > 0.0:
        step = solver.last_step
        solver.restart(
            met if after is not None else min(2.0 * met - solver.time, solver.end), beyond
        )
        solver.last_step = step
        return None if same else Met(met, "kink")
    _finish(solver, met, kink, begun)
    return Met(met, "kink", "minimum" if _leads_nowhere(solver, kink) else "kink")


def _leads_nowhere(solver: Solver, kink: Tensor) -> bool:
    """Whether many tiny steps from the kink stay where they are, rather than slide along it."""
    x = kink
    length = torch.finfo(x.dtype).eps ** 0.5 * (solver.scale + float(x.norm()))
    farthest = 0.0
    for _ in range(TINY_STEPS):
        v = solver.field(x)
        if not torch.isfinite(v).all():
            break
        farthest = max(farthest, float(v.norm()))
        x = x + length * v
    return float((x - kink).norm()) <= 0.05 * TINY_STEPS * length * farthest


def _finish(solver: Solver, met: float, kink: Tensor, begun: float) -> None:
    """Put the flow's end on the kink."""
    solver.restart(min(met, solver.end), kink)
    solver.last_step = met - begun

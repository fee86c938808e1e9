"""Detect kinks on the way of a flow, then cross them or end the flow there.

At a kink the gradient jumps along the normal of the kink. The flow crosses it if the velocities on
both sides point the same way along the normal. Otherwise it stops in a minimum or would slide along
the kink: Filippov (1988), "Differential Equations with Discontinuous Righthand Sides".
"""

import math
from typing import TypeAlias

import torch
from torch import Tensor

from corridor.flows._solver import Solver
from corridor.flows.trajectory import Event

NEAR = 1e-10  # distance at which the flow jumps over a kink, relative to the scale of the start
SHORT = 1e4  # longest step, in tolerances, that a kink may have caused
TINY_STEPS = 64  # number of steps that decide between a minimum and sliding
JUMP = 0.05  # relative change of the gradient that makes a short step suspect


# A kink or an edge that the flow met, and why the flow ends there, empty if it continues.
Met: TypeAlias = tuple[Event | None, str]
NOTHING: Met = (None, "")


def advance(solver: Solver) -> Met:
    """Take one step of the flow and return the kink at its end."""
    solver.begun = solver.time
    room = solver.flat_loss.margin(solver.point())
    if room is not None:
        return _advance_within(solver, room)
    before, x = solver.velocity(), solver.point()
    size = solver.scale + float(x.norm())
    longest, near = solver.time_to_switch(), SHORT * solver.tolerance * size
    if longest < math.inf:
        # Most of the way at a time: the flow may accelerate. The last part may be short.
        longest = max(0.7 * longest, min(0.01 * near, 1e-6 * size) / float(before.norm()))
    solver.step(longest)
    after = solver.velocity()
    short = float((solver.point() - x).norm()) <= near
    larger = max(float(before.norm()), float(after.norm()))
    if short and float((before - after).norm()) > JUMP * larger:
        return _locate(solver, x, before, solver.point(), after)
    ahead = solver.last_step * before  # a steep kink pushes the step back
    if short and float((solver.point() - x - ahead).norm()) > JUMP * float(ahead.norm()):
        return _locate(solver, x, before, x + ahead, solver.field(x + ahead))
    return NOTHING


def _advance_within(solver: Solver, room: float) -> Met:
    """Step inside the ball without kinks, and jump over a kink at its edge."""
    speed = float(solver.velocity().norm())
    x = solver.point()
    inside = 0.9 * room / speed if speed > 0.0 else math.inf
    longest = inside if solver.grazing is None else max(inside, 0.9 * solver.grazing)
    while True:
        solver.step(longest)
        if float((solver.point() - x).norm()) <= room or _falls_as_square(solver, room):
            break
        # The flow accelerated and may have left the ball, so the step is repeated shorter.
        longest = min(inside, longest / 4.0)
        solver.restart(solver.begun, x, longest)
    after = solver.flat_loss.margin(solver.point())
    assert after is not None
    taken = solver.time - solver.begun
    _note_grazing(solver, room, after, taken)
    if not after <= NEAR * solver.scale or not room > after:
        return NOTHING
    wait = after * taken / (room - after)
    return _jump(solver, wait if solver.grazing is None else solver.grazing)


def _falls_as_square(solver: Solver, room: float) -> bool:
    """Return True if the margin fell as the square of the time left until a tangent kink."""
    if solver.grazing is None:
        return False
    for eighth in range(1, 9):
        part = eighth / 8.0 * (solver.time - solver.begun)
        x = solver.read(solver.interpolant(), solver.begun + part)
        expected = room * (1.0 - part / solver.grazing) ** 2
        if not 0.7 * expected <= (solver.flat_loss.margin(x) or 0.0) <= 1.4 * expected:
            return False
    return True


def _note_grazing(solver: Solver, before: float, after: float, taken: float) -> None:
    """Estimate the time until a tangent kink, towards which the steps become ever shorter."""
    # Before such a kink the margin falls as the square of the time left.
    falls = 0.0 < after < before
    solver.slow_steps = solver.slow_steps + 1 if falls and before < after / 0.75 else 0
    grazes = solver.slow_steps >= 10 or solver.grazing is not None
    solver.grazing = None
    if grazes and falls:
        solver.grazing = after**0.5 * taken / (before**0.5 - after**0.5)


def _jump(solver: Solver, wait: float) -> Met:
    """Move the flow over a kink that it reaches after the time `wait`, or end the flow there."""
    x, v = solver.point(), solver.velocity()
    met = solver.time + wait
    if met >= solver.end:
        solver.restart(solver.end, x + (solver.end - solver.time) * v)
        return Event(met, "kink"), "time"
    # The mirror image of x behind the kink is as far from the kink as x is.
    kink, beyond = x + wait * v, x + 2.0 * wait * v
    room = solver.flat_loss.margin(beyond)
    before, after = solver.flat_loss.number(x), solver.flat_loss.number(beyond)
    fall = 10.0 * float(v.norm()) * float((beyond - x).norm())
    jumps = not abs(after - before) <= fall + 1e-9 * abs(after)
    if jumps or (room is not None and room < 0.0):
        return _finish(solver, met, kink, "exit", "left the domain")
    return _cross(solver, met, kink, beyond, v)


def _locate(solver: Solver, x: Tensor, v: Tensor, end: Tensor, high_v: Tensor) -> Met:
    """Find the kink between two points by bisection, if the gradient jumps."""
    low, high, low_v, taken = 0.0, 1.0, v, solver.last_step
    total = float((high_v - low_v).norm())
    for halving in range(20):
        middle = 0.5 * (low + high)
        middle_v = solver.field(x + middle * (end - x))
        if float((middle_v - low_v).norm()) < float((high_v - middle_v).norm()):
            low, low_v = middle, middle_v
        else:
            high, high_v = middle, middle_v
        # A smooth change shrinks with its interval; a jump keeps its size.
        if halving >= 2 and float((high_v - low_v).norm()) < 0.5 * total:
            return NOTHING
    # A step that rebounds from the kink moves less across it than along it.
    normal = low_v - high_v
    wait = high * float((end - x) @ normal / (v @ normal))
    wait = min(max(wait, 0.0), taken) if math.isfinite(wait) else high * taken
    kink = x + wait * v
    return _cross(solver, solver.begun + wait, kink, kink, low_v, high_v)


def _cross(
    solver: Solver, met: float, kink: Tensor, beyond: Tensor, v: Tensor, after: Tensor | None = None
) -> Met:
    """Continue behind the kink if the velocity there leads away from it, else end on it."""
    w = solver.field(beyond) if after is None else after
    if not torch.isfinite(w).all():
        return _finish(solver, met, kink, "exit", "left the domain")
    if float(w.norm()) <= 1e-12 * float(v.norm()):
        return _finish(solver, met, kink, "kink", "minimum")
    # The gradient jumps along the normal of the kink, so v - w points along it.
    normal = v - w
    same = float(normal.norm()) <= 1e-9 * float(v.norm())
    if same or float((v @ normal) * (w @ normal)) > 0.0:
        step = solver.last_step
        behind = min(2.0 * met - solver.time, solver.end) if after is None else met
        solver.restart(behind, beyond)
        solver.last_step = step
        return (None if same else Event(met, "kink")), ""
    return _finish(solver, met, kink, "kink", "minimum" if _stays(solver, kink) else "kink")


def _stays(solver: Solver, kink: Tensor) -> bool:
    """Return True if many tiny steps from the kink return to it instead of sliding along it."""
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


def _finish(solver: Solver, met: float, kink: Tensor, kind: str, stopped: str) -> Met:
    solver.restart(min(met, solver.end), kink)
    solver.last_step = met - solver.begun
    return Event(met, kind), stopped

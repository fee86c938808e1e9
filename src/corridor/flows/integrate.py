"""Flows by scipy's adaptive solver, with kinks, exits and minima found on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from corridor.flows import _kinks, fields
from corridor.flows._progress import Progress, reporter
from corridor.flows._solver import BudgetError, Solver, SolverError
from corridor.flows.discrete import mean_loss
from corridor.flows.fields import Field
from corridor.flows.space import FlatLoss, Loss, Point, positive, starting_at
from corridor.flows.trajectory import Event, Trajectory, assemble

MODIFIED = ("igr", "heavy ball", "sgd", "principal")


def gradient_flow(
    loss: Loss,
    start: Point,
    time: float = 1.0,
    tolerance: float = 1e-9,
    *,
    at: Sequence[float] | Tensor | None = None,
    dense: bool = False,
    max_gradients: int = 100_000,
    progress: bool | Progress = False,
) -> Trajectory:
    """The gradient flow ``theta' = -g(theta)`` from a start for a time, to a tolerance.

    Solved by the explicit Runge-Kutta method of order 8 of Dormand and Prince (scipy's DOP853) in
    float64, on the CPU; the loss is evaluated where and in the dtype in which the start lies. If
    the loss knows its domain (`corridor.surfaces`), no step reaches a kink unawares, and the time
    when the flow meets one is found to rounding; else kinks are noticed by gradients that jump.
    A kink through which the flow goes on is an event, one it cannot leave ends it.

    Args:
        loss: of a tensor shaped like start, or of a list of tensors; returns a scalar.
        start: a tensor, or a list of tensors.
        time: how long to flow.
        tolerance: relative, of each step; 1e-6 or more for float32 starts.
        at: times to keep; the solver's own by default.
        dense: keep what `Trajectory.at` needs to read the path between its points.
        max_gradients: the budget; a flow that spends it stops as "budget".
        progress: True for a line on stderr now and then, or a function of time, gradients so far
            and last step size.

    Returns:
        The path, with its cost in gradients and the steps taken.

    Raises:
        ImportError: scipy is missing.
        ValueError: the start is outside the domain, on a kink, or the loss not finite there; a
            number is out of range; a time of `at` lies beyond the flow's end.

    Example:
        >>> import torch
        >>> start = torch.tensor([3.0, 4.0], dtype=torch.float64)
        >>> path = gradient_flow(lambda x: 0.5 * x.square().sum(), start, time=1.0)
        >>> bool((path.end - start / torch.e).norm() < 1e-8), path.stopped
        (True, 'time')

    Reference:
        Hairer, Norsett and Wanner (1993), "Solving Ordinary Differential Equations I", II.5.
    """
    flat_loss = starting_at(loss, start)
    return _integrate(
        flat_loss,
        fields.gradient(flat_loss),
        time,
        tolerance,
        method="gradient flow",
        at=at,
        dense=dense,
        max_gradients=max_gradients,
        progress=progress,
    )


def modified_flow(
    loss: Loss | Sequence[Loss],
    start: Point,
    time: float = 1.0,
    tolerance: float = 1e-9,
    *,
    kind: str = "igr",
    step_size: float = 0.1,
    momentum: float = 0.9,
    krylov: int = 30,
    **options: Any,
) -> Trajectory:
    """The flow that a method with a finite step follows more closely than the gradient flow.

    Args:
        loss: of the point, a scalar; for "sgd" the losses of the batches.
        start: a tensor, or a list of tensors.
        time: how long to flow.
        tolerance: relative, of each step.
        kind: "igr" (gradient descent's, ``E + h/4 ||g||^2``), "heavy ball" (its flow once the
            velocity is up, at the rate ``h / (1 - beta)``), "sgd" (expected over the orders of the
            batches), or "principal" (exact for gradient descent on quadratics, below step size
            ``1 / lambda_max``).
        step_size: h of the method that is followed.
        momentum: beta of the heavy ball.
        krylov: for the principal flow, dimension of the Krylov space its Hessian is taken on; exact
            up to that many parameters.
        options: those of `gradient_flow`.

    Returns:
        The path. In a corridor all of these are the gradient flow, but for the heavy ball's rate.

    Raises:
        ValueError: the kind is unknown, or as for `gradient_flow`.

    Example:
        >>> import torch
        >>> H = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
        >>> x = torch.ones(2, dtype=torch.float64)
        >>> loss = lambda x: 0.5 * x @ H @ x
        >>> flow = modified_flow(loss, x, 0.1, kind="principal", step_size=0.1)
        >>> bool((flow.end - (x - 0.1 * H @ x)).norm() < 1e-9)
        True

    Reference:
        `corridor.flows.fields` names the source of each.
    """
    if kind not in MODIFIED:
        raise ValueError(f"kind must be one of {', '.join(MODIFIED)}, got {kind!r}")
    if callable(loss) == (kind == "sgd"):
        raise ValueError('kind "sgd" takes a list of batch losses, the others take one loss')
    whole: Any = loss if callable(loss) else mean_loss(loss)
    flat_loss = starting_at(whole, start)
    if kind == "igr":
        field = fields.regularized(flat_loss, step_size)
    elif kind == "heavy ball":
        field = fields.heavy_ball(flat_loss, step_size, momentum)
    elif kind == "principal":
        field = fields.principal(flat_loss, step_size, krylov)
    else:
        assert not callable(loss)
        field = fields.shuffled(flat_loss, [FlatLoss(b, flat_loss.space) for b in loss], step_size)
    return _integrate(flat_loss, field, time, tolerance, method=f"{kind} flow", **options)


def _integrate(
    flat_loss: FlatLoss,
    field: Field,
    time: float,
    tolerance: float,
    *,
    method: str,
    at: Sequence[float] | Tensor | None = None,
    dense: bool = False,
    max_gradients: int = 100_000,
    progress: bool | Progress = False,
) -> Trajectory:
    positive("time", time)
    wanted = _wanted(at, time)
    solver = Solver(flat_loss, field, time, tolerance, max_gradients)
    record = _Record(flat_loss, wanted, dense)
    report = reporter(progress, time)
    stopped = "time"
    try:
        while solver.time < time:
            met = _kinks.advance(solver)
            record.add(solver, met)
            report(solver.time, flat_loss.gradients, solver.last_step)
            if met is not None and met.stopped:
                stopped = met.stopped
                break
            if solver.at_rest:
                stopped = "minimum"
                break
    except BudgetError:
        stopped = "budget"
    except SolverError as failure:
        stopped = failure.why
    return record.trajectory(solver, method, stopped)


def _wanted(at: Sequence[float] | Tensor | None, time: float) -> list[float] | None:
    if at is None:
        return None
    wanted = [float(t) for t in at]
    roundly = time * (1.0 + 1e-6)  # times may come in float32
    if wanted != sorted(wanted) or not all(0.0 <= t <= roundly for t in wanted):
        raise ValueError(f"at must hold rising times between 0 and {time:g}, got {wanted}")
    return [min(t, time) for t in wanted]


class _Record:
    """Gathers what is kept of a flow: the solver's own points, or those at given times."""

    def __init__(self, flat_loss: FlatLoss, wanted: list[float] | None, dense: bool) -> None:
        self.flat_loss, self.wanted, self.dense = flat_loss, wanted, dense
        self.times, self.flats = [0.0], [flat_loss.space.start]
        self.steps: list[float] = []
        self.events: list[Event] = []
        self.pieces: list[tuple[float, Any]] = []
        self.left = [t for t in wanted if t > 0.0] if wanted is not None else []

    def add(self, solver: Solver, met: _kinks.Met | None) -> None:
        """Take in one step, and the kink it ended on."""
        self.steps.append(solver.last_step)
        piece = solver.interpolant() if self.dense or self.left else None
        if self.dense:
            self.pieces.append((solver.time, piece))
        while self.left and self.left[0] <= solver.time:
            self._keep(self.left[0], solver.read(piece, self.left.pop(0)))
        if met is not None:
            self.events.append(Event(met.time, met.kind))
        if self.wanted is None:
            self._keep(solver.time, solver.point())

    def _keep(self, time: float, flat: Tensor) -> None:
        self.times.append(time)
        self.flats.append(flat)

    def trajectory(self, solver: Solver, method: str, stopped: str) -> Trajectory:
        end = solver.time
        if self.left and stopped != "time" and self.left[0] > end * (1.0 + 1e-12):
            raise ValueError(
                f"time {self.left[0]:g} of at lies beyond the flow's end at {end:g} ({stopped})"
            )
        for time in self.left:  # the last one may miss the end by a rounding
            self._keep(time, solver.point())
        space = self.flat_loss.space
        losses = [self.flat_loss.number(flat) for flat in self.flats]
        return assemble(
            space,
            self.times,
            self.flats,
            losses,
            stopped=stopped,
            method=method,
            gradients=self.flat_loss.gradients,
            step_sizes=self.steps,
            events=tuple(self.events),
            _dense=self._reader(solver) if self.dense else None,
        )

    def _reader(self, solver: Solver) -> Any:
        pieces = self.pieces

        def read(time: float) -> Tensor:
            for end, piece in pieces:
                if time <= end:
                    return solver.read(piece, time)
            return solver.read(pieces[-1][1], min(time, math.nextafter(pieces[-1][0], 0.0)))

        return read

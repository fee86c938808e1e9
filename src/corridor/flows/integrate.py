"""Follow the gradient flow and modified flows with an adaptive solver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from corridor.flows import _kinks, fields
from corridor.flows._solver import Solver, SolverError
from corridor.flows.space import FlatLoss, Loss, Point, positive_number, starting_at
from corridor.flows.stochastic import mean_loss
from corridor.flows.trajectory import Event, Path, Progress, Trajectory

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
    progress: Progress | None = None,
) -> Trajectory:
    """Return the path of the gradient flow, ``theta' = -g(theta)``.

    The solver is scipy's DOP853, the explicit Runge-Kutta method of order 8 of Dormand and Prince.
    It computes in float64 on the CPU. The loss is evaluated on the device and in the dtype of the
    start.

    The losses of `corridor.surfaces` have a domain. For them no step jumps over a kink, and the
    time of a kink is exact up to rounding. For other losses, a jump of the gradient reveals a kink.
    A kink that the flow crosses is an event. A kink that the flow cannot leave ends the path.

    Args:
        loss: function of a point that returns a scalar tensor.
        start: a tensor, or a list of tensors.
        time: duration of the flow, positive (default: 1).
        tolerance: relative error allowed in each step, in [3e-14, 1) (default: 1e-9). A float32
            start needs 1e-6 or more.
        at: rising times at which the path has points (default: the ends of the solver's steps).
        dense: True to let `Trajectory.at` return points at all times (default: False).
        max_gradients: maximum number of gradients (default: 100,000). A flow that needs more stops
            with the reason "budget".
        progress: function of the time, the number of gradients and the step size, called after
            each step (default: none). ``progress=print`` prints them.

    Returns:
        The path, with its cost in gradients and its step sizes.

    Raises:
        ImportError: scipy is missing.
        ValueError: `start` is on a kink or outside the domain, a number is out of range, or a time
            of `at` comes after the end of the flow.

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
    path = Path(flat_loss, "gradient flow")
    record = _Record(path, at, positive_number("time", time), dense)
    solver = Solver(flat_loss, lambda x: -flat_loss.gradient(x), time, tolerance, max_gradients)
    return _integrate(solver, record, progress)


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
    at: Sequence[float] | Tensor | None = None,
    dense: bool = False,
    max_gradients: int = 100_000,
    progress: Progress | None = None,
) -> Trajectory:
    """Return the path of a modified flow, which a discrete method follows more closely.

    In a corridor all kinds equal the gradient flow, except "heavy ball", which moves faster. The
    module `corridor.flows.fields` contains the formulas and their sources.

    Args:
        loss: function of a point that returns a scalar tensor. The kind "sgd" needs the list of the
            batches' losses.
        start: a tensor, or a list of tensors.
        time: duration of the flow, positive (default: 1).
        tolerance: relative error allowed in each step, in [3e-14, 1) (default: 1e-9).
        kind: "igr" for gradient descent, "heavy ball", "sgd" for the mean over all orders of the
            batches, or "principal" (default: "igr"). The kind "principal" follows gradient descent
            on quadratics exactly, for step sizes below ``1 / lambda_max``.
        step_size: h of the discrete method, positive (default: 0.1).
        momentum: beta of the heavy ball, in [0, 1) (default: 0.9).
        krylov: maximum dimension of the Krylov space of "principal" (default: 30). The flow is
            exact for at most this number of parameters.
        at: as for `gradient_flow`: rising times at which the path has points.
        dense: as for `gradient_flow`: True for points at all times (default: False).
        max_gradients: as for `gradient_flow`: maximum number of gradients (default: 100,000).
        progress: as for `gradient_flow`: function called after each step (default: none).

    Raises:
        ImportError: scipy is missing.
        ValueError: `kind` is unknown or does not fit `loss`, or as for `gradient_flow`.

    Example:
        >>> import torch
        >>> H = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
        >>> x = torch.ones(2, dtype=torch.float64)
        >>> loss = lambda x: 0.5 * x @ H @ x
        >>> flow = modified_flow(loss, x, 0.1, kind="principal", step_size=0.1)
        >>> bool((flow.end - (x - 0.1 * H @ x)).norm() < 1e-9)
        True
    """
    if kind not in MODIFIED:
        raise ValueError(f"kind must be one of {', '.join(MODIFIED)}, got {kind!r}; choose one")
    if callable(loss) == (kind == "sgd"):
        wanted = "a list of batch losses" if kind == "sgd" else "one function"
        raise ValueError(
            f"loss must be {wanted} for kind {kind!r}, got {type(loss).__name__}; pass {wanted}"
        )
    batches = [] if callable(loss) else list(loss)
    flat_loss = starting_at(loss if callable(loss) else mean_loss(batches), start)
    if kind == "igr":
        field = fields.regularized(flat_loss, step_size)
    elif kind == "heavy ball":
        field = fields.heavy_ball(flat_loss, step_size, momentum)
    elif kind == "principal":
        field = fields.principal(flat_loss, step_size, krylov)
    else:
        parts = [FlatLoss(batch, flat_loss.space) for batch in batches]
        field = fields.shuffled(flat_loss, parts, step_size)
    path = Path(flat_loss, f"{kind} flow")
    record = _Record(path, at, positive_number("time", time), dense)
    solver = Solver(flat_loss, field, time, tolerance, max_gradients)
    return _integrate(solver, record, progress)


def _integrate(solver: Solver, record: _Record, progress: Progress | None) -> Trajectory:
    try:
        while solver.time < solver.end:
            met = _kinks.advance(solver)
            record.add(solver, met)
            if progress:
                progress(solver.time, solver.flat_loss.gradients, solver.last_step)
            if met is not None and met.stopped:
                return record.trajectory(solver, met.stopped)
            # At rest nothing moves any more, so more steps would only cost gradients.
            if solver.at_rest:
                return record.trajectory(solver, "minimum")
    except SolverError as failure:
        return record.trajectory(solver, str(failure))
    return record.trajectory(solver, "time")


class _Record:
    """Collect the points of a flow at the solver's times or at given times."""

    def __init__(self, path: Path, at: Sequence[float] | Tensor | None, end: float, dense: bool):
        self.path, self.dense, self.every_step = path, dense, at is None
        self.steps: list[float] = []
        self.pieces: list[tuple[float, Any]] = []
        self.left = [] if at is None else [t for t in _rising(at, end) if t > 0.0]

    def add(self, solver: Solver, met: _kinks.Met | None) -> None:
        """Store one step and the kink at its end."""
        self.steps.append(solver.last_step)
        piece = solver.interpolant() if self.dense or self.left else None
        if self.dense:
            self.pieces.append((solver.time, piece))
        while self.left and self.left[0] <= solver.time:
            self.path.add(self.left[0], solver.read(piece, self.left.pop(0)))
        if met is not None:
            self.path.events.append(Event(met.time, met.kind))
        if self.every_step:
            self.path.add(solver.time, solver.point())

    def trajectory(self, solver: Solver, stopped: str) -> Trajectory:
        """Return the stored path."""
        end = solver.time
        if self.left and stopped != "time" and self.left[0] > end * (1.0 + 1e-12):
            raise ValueError(
                f"at must end before the flow does at time {end:g} ({stopped}), got "
                f"{self.left[0]:g}; drop the later times"
            )
        # Rounding can put the last wanted time just after the end.
        for time in self.left:
            self.path.add(time, solver.point())
        dense = (lambda time: self._read(solver, time)) if self.dense else None
        return self.path.trajectory(stopped, steps=self.steps, dense=dense)

    def _read(self, solver: Solver, time: float) -> Tensor:
        for end, piece in self.pieces:
            if time <= end:
                return solver.read(piece, time)
        # A jump over a kink at the end belongs to no step.
        last, piece = self.pieces[-1]
        return solver.read(piece, last)


def _rising(at: Sequence[float] | Tensor, end: float) -> list[float]:
    times = [float(t) for t in at]
    # A float32 tensor holds the end only to about seven digits.
    roundly = end * (1.0 + 1e-6)
    if times != sorted(times) or not all(0.0 <= t <= roundly for t in times):
        raise ValueError(
            f"at must hold rising times between 0 and {end:g}, got {times}; sort and limit them"
        )
    return [min(t, end) for t in times]

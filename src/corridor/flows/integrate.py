"""Follow the gradient flow and modified flows, with an adaptive solver or with fixed steps."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from corridor.flows import _kinks, fields
from corridor.flows._solver import Solver, SolverError
from corridor.flows.discrete import mean_loss
from corridor.flows.methods import TABLES, Field
from corridor.flows.space import FlatLoss, Loss, Point, number, starting_at, whole_number
from corridor.flows.trajectory import Event, Path, Progress, Trajectory
from corridor.geometry.lanczos import top_curvature

Times: TypeAlias = Sequence[float] | Tensor

METHODS = ("explicit", "implicit")
MODIFIED = ("igr", "heavy ball", "sgd", "principal")
LARGEST = 2000  # parameters of an implicit flow, whose Hessian is computed in full
STIFF = 3.0  # step times curvature of a smooth flow that only stability limits


def gradient_flow(
    loss: Loss,
    start: Point,
    time: float = 1.0,
    tolerance: float = 1e-9,
    *,
    method: str = "explicit",
    at: Times | None = None,
    dense: bool = False,
    max_gradients: int = 100_000,
    progress: Progress | None = None,
) -> Trajectory:
    """Return the path of the gradient flow, ``theta' = -g(theta)``.

    The solver is scipy's DOP853, an explicit Runge-Kutta method of order 8, in float64 on the CPU.
    The loss is evaluated on the device and in the dtype of the start. A stiff loss has curvatures
    of very different sizes, and needs ``method="implicit"``.

    A kink that the flow crosses is an event. A kink that the flow cannot leave ends the path. The
    time of a kink is exact up to rounding for losses with a domain, as in `corridor.surfaces`. For
    other losses a jump of the gradient reveals a kink, and steps end before a predicted switch of
    ``abs`` or ``max``. A flow that accelerates can still leap over a kink at a loose tolerance.

    Args:
        loss: function of a point that returns a scalar tensor.
        start: a tensor, or a list of tensors.
        time: duration of the flow (default: 1). A negative time follows the flow backwards.
        tolerance: estimated relative error allowed in each step, in [3e-14, 1) (default: 1e-9). A
            float32 start needs 1e-6 or more. A point can be off by 150 tolerances, but with `at` or
            `dense` further gradients test each step.
        method: "explicit" or "implicit" (default: "explicit"). The implicit solver is scipy's Radau
            of order 5, with the full Hessian, for smooth losses of at most 2,000 parameters.
        at: ordered times from 0 to `time` of the path's points (default: the ends of all steps).
        dense: True to let `Trajectory.at` return points at all times (default: False).
        max_gradients: maximum number of gradients (default: 100,000). A flow that needs more stops
            with the reason "budget".
        progress: function of the time, the number of gradients and the step size, called after
            each step (default: none), such as ``print``.

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
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}; change it")
    size = len(flat_loss.start)
    if method == "implicit" and size > LARGEST:
        need = f"start must have at most {LARGEST} numbers for an implicit flow"
        raise ValueError(f"{need}, got {size}; use method='explicit' or fixed_step_flow")
    flow = _Flow(flat_loss, "gradient flow", time, at, dense)
    hessian = flat_loss.hessian if method == "implicit" else None
    return flow.follow(
        lambda x: -flat_loss.gradient(x), tolerance, max_gradients, progress, hessian
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
    at: Times | None = None,
    dense: bool = False,
    max_gradients: int = 100_000,
    progress: Progress | None = None,
) -> Trajectory:
    """Return the path of a modified flow, which a discrete method follows more closely.

    In a corridor all kinds equal the gradient flow, except "heavy ball", which moves faster. The
    module `corridor.flows.fields` contains the formulas and their sources.

    Args:
        loss: function of a point that returns a scalar tensor, a list of them for the kind "sgd".
        start: a tensor, or a list of tensors.
        time: as for `gradient_flow`: duration of the flow (default: 1).
        tolerance: relative error allowed in each step, in [3e-14, 1) (default: 1e-9).
        kind: "igr" for gradient descent, "heavy ball", "sgd" for the mean over all orders of the
            batches, or "principal" (default: "igr"). The kind "principal" follows gradient descent
            on quadratics exactly, for step sizes below ``1 / lambda_max``.
        step_size: h of the discrete method, positive (default: 0.1).
        momentum: beta of the heavy ball, in [0, 1) (default: 0.9).
        krylov: Krylov dimension of "principal", exact for this number of parameters (default: 30).
        at: as for `gradient_flow`: times at which the path has points.
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
        raise ValueError(f"kind must be one of {', '.join(MODIFIED)}, got {kind!r}; change it")
    if callable(loss) == (kind == "sgd"):
        want = "a list of batch losses" if kind == "sgd" else "one function"
        got = type(loss).__name__
        raise ValueError(f"loss must be {want} for kind {kind!r}, got {got}; pass {want}")
    loss = loss if callable(loss) else list(loss)
    flat_loss = starting_at(loss if callable(loss) else mean_loss(loss), start)
    if not callable(loss):
        field = fields.shuffled(flat_loss, [FlatLoss(one, start) for one in loss], step_size)
    elif kind == "principal":
        field = fields.principal(flat_loss, step_size, krylov)
    else:
        field = fields.regularized(flat_loss, step_size, momentum if kind == "heavy ball" else 0.0)
    flow = _Flow(flat_loss, f"{kind} flow", time, at, dense)
    return flow.follow(field, tolerance, max_gradients, progress)


def fixed_step_flow(
    loss: Loss,
    start: Point,
    time: float = 1.0,
    *,
    safety: float = 0.5,
    refresh: int = 10,
    krylov: int = 10,
    max_gradients: int = 100_000,
    progress: Progress | None = None,
) -> Trajectory:
    """Return the gradient flow, computed by RK4 with steps of ``safety / lambda_max``.

    A ReLU network has a kink every few steps. An adaptive solver spends hundreds of gradients on
    each, although it changes the path only by ``h^2`` times the jump of the gradient.

    The function also takes half the step, and returns the finer path. The estimate `error` is three
    times the distance between the two. It assumes an order of convergence of 0.42, as at kinks.
    Both paths may stay beside one kink, whose two sides push towards each other. The estimate
    therefore adds the longest way that the stages of any step so far went to and fro, if the
    velocity changes more within the step than on a smooth loss.

    Args:
        loss: function of a point that returns a scalar tensor.
        start: a tensor, or a list of tensors.
        time: duration of the flow, negative for the flow backwards (default: 1).
        safety: product of step size and largest curvature, in (0, 2] (default: 0.5).
        refresh: number of steps between two estimates of the curvature (default: 10).
        krylov: number of Hessian products per estimate of the curvature (default: 10).
        max_gradients: as for `gradient_flow`: maximum number of gradients (default: 100,000).
        progress: as for `gradient_flow`: function called after each step (default: none).

    Example:
        >>> x = torch.ones(2, dtype=torch.float64)
        >>> path = fixed_step_flow(lambda x: 0.5 * x.square().sum(), x, 1.0)
        >>> gap = float((path.end - x / torch.e).norm())
        >>> gap < float(path.error[-1]) < 1e-3
        True
    """
    flat_loss = starting_at(loss, start)
    time = number("time", time)
    sign, time = math.copysign(1.0, time), abs(time)
    if not 0.0 < safety <= 2.0:
        raise ValueError(f"safety must be in (0, 2], got {safety}; take 0.5 if unsure")
    whole_number("refresh", refresh)
    path, rk4 = Path(flat_loss, "gradient flow by fixed steps"), TABLES["rk4"].step
    stages: list[Tensor] = []

    def velocity(x: Tensor) -> Tensor:
        stages.append(-sign * flat_loss.gradient(x))
        return stages[-1]

    coarse = fine = flat_loss.start
    weights = torch.tensor([1.0, 2.0, 2.0, 1.0] * 2).to(fine) / 12.0
    now, step, errors, stopped, lost = 0.0, 0.0, [0.0], "time", 0.0
    while now < time * (1.0 - 1e-12):
        if (len(errors) - 1) % refresh == 0:
            g, product = flat_loss.product(fine)
            top = top_curvature(product, g, krylov)
            step = min(safety / top, 0.1 * time) if top > 0.0 else 0.1 * time
        # Three steps of RK4 cost 12 gradients.
        if flat_loss.gradients + 12 > max_gradients:
            stopped = "budget"
            break
        h = min(step, time - now)
        coarse = rk4(velocity, coarse, h)
        stages.clear()
        fine = rk4(velocity, rk4(velocity, fine, 0.5 * h), 0.5 * h)
        if not (torch.isfinite(fine).all() and torch.isfinite(coarse).all()):
            stopped = "not finite"
            break
        now += h
        path.add(sign * now, fine)
        # An order of 0.42 divides the error by 4/3, and 1 / (4/3 - 1) is 3.
        rows = torch.stack(stages)
        speeds, change = rows.norm(dim=1), rows.diff(dim=0).norm(dim=1).max()
        if change > min(safety, 1.0) * speeds.max():
            lost = max(lost, h * float(weights @ speeds - (weights @ rows).norm()))
        errors.append(3.0 * float((fine - coarse).norm()) + lost)
        stages.clear()
        if progress:
            progress(sign * now, flat_loss.gradients, h)
    error = torch.tensor(errors, dtype=torch.float64)
    return replace(path.trajectory(stopped), error=error)


class _Flow(Path):
    """Collect the points of a flow, at the solver's times or at given times."""

    def __init__(
        self, flat_loss: FlatLoss, method: str, time: float, at: Times | None, dense: bool
    ) -> None:
        super().__init__(flat_loss, method)
        self.end = number("time", time)
        # A flow backwards has negative times, and the solver sees their absolute values.
        self.sign = math.copysign(1.0, self.end)
        self.dense, self.every_step = dense, at is None
        self.left = [] if at is None else [abs(t) for t in _ordered(at, self.end) if t]
        self.steps: list[float] = []
        self.pieces: list[tuple[float, Any]] = []

    def follow(
        self,
        velocity: Field,
        tolerance: float,
        budget: int,
        progress: Progress | None,
        hessian: Field | None = None,
    ) -> Trajectory:
        """Return the flow of a velocity, by the implicit solver if a Hessian is given."""
        sign, stopped, solver = self.sign, "", None
        if not self.end:
            return self.trajectory("time")
        jacobian = None if hessian is None else lambda x: -sign * hessian(x)
        flat_loss, end = self.flat_loss, abs(self.end)
        try:
            solver = Solver(
                flat_loss, lambda x: sign * velocity(x), end, tolerance, budget, jacobian
            )
            while not stopped:
                solver.reads = self.dense or bool(self.left)
                event, stopped = _kinks.advance(solver)
                self._add_step(solver, event)
                if progress:
                    progress(sign * solver.time, flat_loss.gradients, self.steps[-1])
                rest = "minimum" if solver.at_rest else ""
                stopped = stopped or rest or ("time" if solver.time >= end else "")
        except SolverError as failure:
            stopped = str(failure)
            if solver is None:
                return self.trajectory(stopped)
            if hessian is None and stopped == "budget":
                _advise(solver)
        return self._finished(solver, stopped)

    def _add_step(self, solver: Solver, event: Event | None) -> None:
        self.steps.append(self.sign * solver.last_step)
        piece = solver.interpolant() if solver.reads else None
        if self.dense:
            self.pieces.append((solver.time, piece))
        while self.left and self.left[0] <= solver.time:
            self.add(self.sign * self.left[0], solver.read(piece, self.left.pop(0)))
        if event is not None:
            self.events.append(Event(self.sign * event.time, event.kind))
        if self.every_step:
            self.add(self.sign * solver.time, solver.point())

    def _finished(self, solver: Solver, stopped: str) -> Trajectory:
        """Return the path, or raise a ValueError if the flow ended before a time of `at`."""
        if self.left and stopped != "time" and self.left[0] > solver.time * (1.0 + 1e-12):
            end, late = self.sign * solver.time, self.sign * self.left[0]
            need = f"at must end before the flow does at time {end:g} ({stopped})"
            raise ValueError(f"{need}, got {late:g}; drop the later times")
        # Rounding can put the last wanted time just after the end.
        for time in self.left:
            self.add(self.sign * time, solver.point())

        def dense(time: float) -> Any:
            # A jump over a kink at the end belongs to no step.
            time = min(abs(time), self.pieces[-1][0])
            piece = next(piece for end, piece in self.pieces if time <= end)
            return self.flat_loss.unpack(solver.read(piece, time))

        return replace(self.trajectory(stopped, self.steps), _dense=dense if self.dense else None)


def _advise(solver: Solver) -> None:
    """Warn if only stability limited the steps of a flow that has spent its budget."""
    spent, x = solver.flat_loss.gradients, solver.point()
    g, product = solver.flat_loss.product(x)
    top = top_curvature(product, g + torch.ones_like(g) * g.norm(), 10)
    solver.flat_loss.gradients = spent
    if solver.last_step * top > STIFF:
        warnings.warn(
            f"the flow spent {solver.budget} gradients by time {solver.time:g}, because the "
            f'curvature {top:g} keeps its steps short; use gradient_flow(..., method="implicit")',
            stacklevel=4,
        )


def _ordered(at: Times, end: float) -> list[float]:
    """Return the given times, or raise a ValueError unless they are in order and in the flow."""
    times = [float(t) for t in at]
    # A float32 tensor holds the end only to about seven digits.
    low, high = sorted((0.0, end * (1.0 + 1e-6)))
    if times != sorted(times, key=abs) or not all(low <= t <= high for t in times):
        need = f"at must hold times between 0 and {end:g} in order"
        raise ValueError(f"{need}, got {times}; sort and limit them")
    return [max(min(t, max(end, 0.0)), min(end, 0.0)) for t in times]

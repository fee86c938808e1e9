"""Run scipy's DOP853 step by step on a flat torch vector, within a budget of gradients."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from corridor._extras import required
from corridor.flows.methods import Field
from corridor.flows.space import FlatLoss


class SolverError(Exception):
    """Report why the solver cannot continue, in the words of `Trajectory.stopped`."""


class Solver:
    """Advance a flow by adaptive steps.

    Args:
        flat_loss: the loss.
        field: velocity as a function of the flat vector.
        end: end of the flow's time.
        tolerance: relative error allowed in each step, in [3e-14, 1).
        budget: maximum number of gradients.

    Attributes:
        scale: root mean square of the start's entries, 1 for a zero start.
        last_step: size of the last step.
        grazing: estimated time until a kink that the flow meets at a tangent, None if unknown.
        slow_steps: number of successive steps that approached a kink slowly.

    Raises:
        ImportError: scipy is missing.
        ValueError: `tolerance` is out of range.
    """

    def __init__(
        self, flat_loss: FlatLoss, field: Field, end: float, tolerance: float, budget: int
    ) -> None:
        with required("scipy", extra="flows"):
            from scipy.integrate import DOP853
        if not 3e-14 <= tolerance < 1.0:
            raise ValueError(f"tolerance must be in [3e-14, 1), got {tolerance}; take 1e-9")
        self._method = DOP853
        self.flat_loss, self.field = flat_loss, field
        self.end, self.tolerance, self.budget = end, tolerance, budget
        start = flat_loss.space.start
        # The absolute tolerance follows the size of the start; a zero start has no size.
        self.scale = float(start.double().square().mean().sqrt()) or 1.0
        self.last_step = 0.0
        self.grazing: float | None = None
        self.slow_steps = 0
        self._finite = True
        self._fastest = 0.0
        self.restart(0.0, start)

    def restart(self, time: float, flat: Tensor, step: float | None = None) -> None:
        """Continue from another point, with a first step of the given size."""
        self.last_step = 0.0
        left = self.end - time
        self._steps = self._method(
            lambda t, y: self._velocity_at(y),
            time,
            flat.detach().cpu().double().numpy(),
            self.end,
            rtol=self.tolerance,
            atol=self.tolerance * self.scale,
            first_step=None if step is None or left <= 0.0 else min(step, left),
        )

    def _velocity_at(self, y: Any) -> Any:
        if self.flat_loss.gradients >= self.budget:
            raise SolverError("budget")
        value = self.field(self._to_flat(y))
        self._finite = bool(torch.isfinite(value).all())
        return value.detach().cpu().double().numpy()

    def _to_flat(self, y: Any) -> Tensor:
        # from_numpy shares memory with scipy, and a loss could overwrite the solver's state.
        return torch.from_numpy(y).to(self.flat_loss.space.start, copy=True)

    @property
    def time(self) -> float:
        """Return the current time."""
        return float(self._steps.t)

    def point(self) -> Tensor:
        """Return the current point as a flat vector."""
        return self._to_flat(self._steps.y)

    def velocity(self) -> Tensor:
        """Return the current velocity without a new gradient."""
        return self._to_flat(self._steps.f)

    @property
    def at_rest(self) -> bool:
        """Return True if the speed is 0 up to rounding of the initial speed."""
        speed = float(self.velocity().double().norm())
        self._fastest = self._fastest or speed
        return speed <= 1e-14 * self._fastest

    def step(self, longest: float = math.inf) -> None:
        """Take one accepted step of at most the given size.

        Raises:
            SolverError: the velocity is 0, no step is short enough, or the budget is spent.
        """
        steps = self._steps
        # scipy cannot choose a step size for a zero velocity.
        if steps.f is not None and not steps.f.any():
            raise SolverError("minimum")
        before = steps.t
        steps.max_step = longest
        steps.step()
        if steps.status == "failed":
            raise SolverError(self._why())
        self.last_step = float(steps.t - before)
        self._stepped = steps

    def _why(self) -> str:
        if not self._finite:
            return "not finite"
        # Near an edge where E tends to -inf the speed grows without bound.
        diverges = float(self.velocity().double().norm()) > 1e4 * self._fastest
        return "left the domain" if diverges else "kink"

    def interpolant(self) -> Any:
        """Return the last step as a function of time, for `read`."""
        return self._stepped.dense_output()

    def read(self, piece: Any, time: float) -> Tensor:
        """Return the flat vector at a time, from the interpolant of a step."""
        return self._to_flat(piece(time))

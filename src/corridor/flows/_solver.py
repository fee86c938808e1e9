"""scipy's stepper about a flat torch vector: one step at a time, with a budget."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from corridor.flows.fields import Field
from corridor.flows.space import FlatLoss


class BudgetError(Exception):
    """The flow has cost as many gradients as it may."""


class SolverError(Exception):
    """The solver cannot go on; ``why`` in the words of `Trajectory.stopped`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Solver:
    """A flow in progress.

    Args:
        flat_loss: the loss.
        field: the right-hand side on flat vectors.
        end: when to stop.
        tolerance: relative, of each step.
        budget: gradients that may be spent.

    Raises:
        ImportError: scipy is missing.
        ValueError: the tolerance is out of range.
    """

    def __init__(
        self, flat_loss: FlatLoss, field: Field, end: float, tolerance: float, budget: int
    ) -> None:
        try:
            from scipy.integrate import DOP853
        except ImportError as error:
            raise ImportError('flows need scipy; pip install "corridor[flows]"') from error
        if not 3e-14 <= tolerance < 1.0:
            raise ValueError(f"tolerance must lie between 3e-14 and 1, got {tolerance}")
        self._method = DOP853
        self.flat_loss, self.field = flat_loss, field
        self.end, self.tolerance, self.budget = end, tolerance, budget
        start = flat_loss.space.start
        self.scale = float(start.double().square().mean().sqrt()) or 1.0
        self.finite = True
        self.last_step = 0.0
        self.fastest = 0.0
        self.grazing: float | None = None
        self.slow_steps = 0
        self.restart(0.0, start)

    def restart(self, time: float, flat: Tensor, step: float | None = None) -> None:
        """Begin anew at a point, as after a kink; `step` bounds the first step."""
        self.last_step = 0.0
        left = self.end - time
        self._steps = self._method(
            lambda t, y: self._right_hand_side(y),
            time,
            flat.detach().cpu().double().numpy(),
            self.end,
            rtol=self.tolerance,
            atol=self.tolerance * self.scale,
            first_step=None if step is None or left <= 0.0 else min(step, left),
        )

    def _right_hand_side(self, y: Any) -> Any:
        if self.flat_loss.gradients >= self.budget:
            raise BudgetError
        value = self.field(self.to_flat(y))
        self.finite = bool(torch.isfinite(value).all())
        return value.detach().cpu().double().numpy()

    def to_flat(self, y: Any) -> Tensor:
        """A flat vector of the start's dtype and device."""
        return torch.from_numpy(y).to(self.flat_loss.space.start, copy=True)

    @property
    def time(self) -> float:
        """Now."""
        return float(self._steps.t)

    def point(self) -> Tensor:
        """The flat vector now."""
        return self.to_flat(self._steps.y)

    def velocity(self) -> Tensor:
        """The field here and now, without a new evaluation."""
        return self.to_flat(self._steps.f)

    @property
    def at_rest(self) -> bool:
        """Whether the flow stands still: up to rounding of the speed it first had."""
        speed = float(self.velocity().double().norm())
        self.fastest = self.fastest or speed
        return speed <= 1e-14 * self.fastest

    def step(self, longest: float = math.inf) -> None:
        """One accepted step, no longer than so much.

        Raises:
            SolverError: no step is short enough.
            BudgetError: the budget is spent.
        """
        steps = self._steps
        if steps.f is not None and not steps.f.any():  # nothing will ever move
            raise SolverError("minimum")
        before = steps.t
        steps.max_step = longest
        if longest < steps.h_abs:
            steps.h_abs = longest
        steps.step()
        if steps.status == "failed":
            raise SolverError(self._why())
        self.last_step = float(steps.t - before)
        self._stepped = steps

    def _why(self) -> str:
        if not self.finite:
            return "not finite"
        diverging = float(self.velocity().double().norm()) > 1e4 * self.fastest
        return "left the domain" if diverging else "kink"

    def interpolant(self) -> Any:
        """The last step as a function of time."""
        return self._stepped.dense_output()

    def read(self, piece: Any, time: float) -> Tensor:
        """The flat vector at a time of a step."""
        return self.to_flat(piece(time))

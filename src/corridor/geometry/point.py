"""The corridor measures of a closure at its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from corridor._types import LossClosure, Params
from corridor.geometry import _gradient, _inputs
from corridor.geometry._gradient import Moved
from corridor.geometry._guard import Untouched
from corridor.geometry.hvp import Jet, guarded_jet
from corridor.geometry.measures import Measures, from_parts, with_secant

Step = float | Tensor | Callable[[Measures], float | Tensor]


def measure(
    closure: LossClosure,
    params: Params | nn.Module,
    *,
    f_star: float = 0.0,
    step: Step | None = None,
    engine: str = "auto",
    check: bool = False,
    across_ranks: bool = False,
    allow_nonfinite: bool = False,
) -> Measures:
    """How close the landscape of a loss is to a corridor at the parameters.

    The model is left as it was found. Without `step` it costs about three gradients (forward and
    backward), with it one more.

    Args:
        closure: computes the scalar loss, forward only.
        params: what the loss is differentiated by: a list, groups, named pairs or a module.
        f_star: lower bound of the loss.
        step: h of a step ``theta - h g``, or what gives it from the measures
            (``lambda m: min(m.clr, 1.0)``); then ``.secant`` holds the measures at its scale.
            Trust them rather than the pointwise ones in networks with kinks (ReLU, max pooling)
            and wherever ``.secant.smoothness`` is far from 1.
        engine: as for `corridor.geometry.jet`.
        check: as for `corridor.geometry.jet`.
        across_ranks: as for `corridor.geometry.jet`.
        allow_nonfinite: give NaN for an infinite or NaN loss instead of raising.

    Raises:
        ValueError: as `corridor.geometry.jet`; or f_star is not finite, or the step not positive.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> cone = measure(lambda: x.norm(), [x])
        >>> float(cone.rho) < 1e-6, float(cone.clr)
        (True, 5.0)
        >>> bowl = measure(lambda: 0.5 * x.square().sum(), [x], step=0.5)
        >>> float(bowl.rho), float(bowl.secant.rho), float(bowl.secant.decrease)
        (0.25, 0.25, 0.75)

    Reference:
        Dherin and Rosca (2024), "Corridor Geometry in Gradient-Based Optimization".
    """
    if not math.isfinite(f_star):
        raise ValueError(f"f_star must be a finite lower bound of the loss, got {f_star}")
    with Untouched(_inputs.parameters(params), across_ranks=across_ranks) as guard:
        found = guarded_jet(guard, closure, engine, check=check, allow_nonfinite=allow_nonfinite)
        measures = from_parts(
            found.loss, found.gradient, found.hessian_gradient, f_star=f_star, engine=found.engine
        )
        if step is None:
            return measures
        size = step(measures) if callable(step) else step
        if not allow_nonfinite and not 0.0 < float(size) < math.inf:
            raise ValueError(f"step must be a positive step size, got {float(size)}")
        return _with_step(guard, closure, found, measures, float(size))


def _with_step(
    guard: Untouched, closure: LossClosure, found: Jet, measures: Measures, step: float
) -> Measures:
    with Moved(guard.params, found.gradient) as moved:
        moved.to(-step)
        loss, gradient = _gradient.evaluate(guard, closure)
    return with_secant(measures, found.gradient, step, loss, gradient)

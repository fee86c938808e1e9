"""Measure how close the loss of a closure is to a corridor at its parameters."""

from collections.abc import Callable

from torch import Tensor, nn

from corridor._types import LossClosure, Params
from corridor.geometry import _gradient, _inputs
from corridor.geometry._guard import Untouched
from corridor.geometry.hvp import guarded_jet
from corridor.geometry.measures import Measures, reduced, with_secant

Step = float | Tensor | Callable[[Measures], float | Tensor]


def measure(
    closure: LossClosure,
    params: Params | nn.Module,
    *,
    f_star: float = 0.0,
    step: Step | None = None,
    engine: str = "auto",
    check: bool | None = None,
    across_ranks: bool = False,
    allow_nonfinite: bool = False,
) -> Measures:
    """Measure how close a loss is to a corridor at the parameters.

    The model does not change. The cost is about three gradients, and four with `step`.

    Args:
        closure: computes the scalar loss, forward only.
        params: a list, parameter groups, named pairs or a module.
        f_star: lower bound of the loss (default: 0.0).
        step: size h of a step ``theta - h g``, or a function that returns it from the measures,
            such as ``lambda m: min(m.clr, 1.0)`` (default: None). Then ``.secant`` holds the
            measures over the step. Prefer them in networks with kinks (ReLU, max pooling).
        engine: "auto" (default), or an engine of `corridor.geometry.jet`.
        check: as for `corridor.geometry.jet` (default: None).
        across_ranks: True averages over all ranks, each with its own batch (default: False).
        allow_nonfinite: True returns NaN for a loss that is not finite (default: False, raise).

    Raises:
        ValueError: as for `corridor.geometry.jet`, or f_star or the step is out of range.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> cone = measure(lambda: x.norm(), [x])
        >>> float(cone.rho) < 1e-6, round(float(cone.clr), 4)
        (True, 5.0)
        >>> bowl = measure(lambda: 0.5 * x.square().sum(), [x], step=0.5)
        >>> float(bowl.rho), float(bowl.secant.rho), float(bowl.secant.decrease)
        (0.25, 0.25, 0.75)
    """
    _inputs.check_f_star(f_star)
    with Untouched(params, across_ranks=across_ranks, check=check) as guard:
        jet = guarded_jet(guard, closure, engine, allow_nonfinite=allow_nonfinite)
        numbers = reduced(jet.loss, jet.gradient, jet.hessian_gradient)
        measures = Measures(**numbers, f_star=f_star, engine=jet.engine)
        if step is None:
            return measures
        size = float(step(measures) if callable(step) else step)
        if not allow_nonfinite:
            _inputs.check_step(size)
        with guard.moving(jet.gradient, step=True) as to:
            to(-size)
            loss, gradient = _gradient.evaluate(guard, closure)
    return with_secant(measures, jet.gradient, size, loss, gradient)

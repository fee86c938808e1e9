"""Loss, gradient and Hessian times gradient of any closure, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from corridor._types import Params
from corridor.geometry import _inputs
from corridor.geometry._guard import Closure, Untouched
from corridor.geometry._tape import Tape


class Engine(NamedTuple):
    """Which engine served, and why: ``name, why = jet.engine``."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@dataclass(frozen=True)
class Jet:
    """Loss, gradient and Hessian-gradient product at a point.

    Attributes:
        loss: E, 0-dim, detached.
        gradient: g, a tensor a parameter, of its shape and dtype.
        hessian_gradient: Hg, likewise; the gradient of ``||g||^2 / 2``.
        engine: which engine served, and why.
    """

    loss: Tensor
    gradient: list[Tensor]
    hessian_gradient: list[Tensor]
    engine: Engine


def jet(
    closure: Closure,
    params: Params | nn.Module,
    *,
    engine: str = "auto",
    allow_nonfinite: bool = False,
) -> Jet:
    """Loss, gradient g and the product Hg of the Hessian with it, exact to rounding.

    Args:
        closure: computes the scalar loss, forward only.
        params: the point: what the loss is differentiated by. A frozen parameter, or one that the
            loss does not use, counts as constant and gets zeros.
        engine: "auto", or "double backward".
        allow_nonfinite: give what comes of an infinite or NaN loss instead of raising.

    Raises:
        ValueError: the closure gives no finite scalar with a graph, or uses none of the
            parameters; they lie on several devices; inference mode is on.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> found = jet(lambda: (x**3).sum(), [x])
        >>> found.gradient, found.hessian_gradient  # 3 x^2 and 6 x * 3 x^2
        ([tensor([ 3., 12.])], [tensor([ 18., 144.])])

    Reference:
        Pearlmutter (1994), "Fast Exact Multiplication by the Hessian".
    """
    found = _inputs.parameters(params)
    if engine not in ("auto", "double backward"):
        raise ValueError(f"engine must be auto or double backward, got {engine!r}")
    with Untouched(found) as guard:
        tape = Tape(guard, closure)
        if not allow_nonfinite:
            _inputs.check_finite(tape.loss)
        product = tape.product(tape.gradient, last=True)
    why = "exact, and the cheapest that is"
    return Jet(tape.loss, tape.gradient, product, Engine("double backward", why))

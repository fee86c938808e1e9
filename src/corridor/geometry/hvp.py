"""Loss, gradient and Hessian times gradient of any closure, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from corridor import _reduce
from corridor._types import Params
from corridor.geometry import _inputs
from corridor.geometry._check import Checked, check_product
from corridor.geometry._engines import ENGINES, Parts
from corridor.geometry._guard import Closure, Untouched

WHY = {
    "double_backward": "exact, and the cheapest that is",
    "forward_over_reverse": "exact",
    "central_differences": "approximate, two gradients on either side",
}


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
        checked: what finite differences said of Hg, where they were asked.
    """

    loss: Tensor
    gradient: list[Tensor]
    hessian_gradient: list[Tensor]
    engine: Engine
    checked: Checked | None = None


def jet(
    closure: Closure,
    params: Params | nn.Module,
    *,
    engine: str = "auto",
    check: bool = False,
    across_ranks: bool = False,
    allow_nonfinite: bool = False,
) -> Jet:
    """Loss, gradient g and the product Hg of the Hessian with it, exact to rounding.

    The model is left as it was found: parameters, ``.grad``, buffers, random state, modes, hooks.
    Attention runs by its plain formula and compiled modules run eagerly meanwhile, since their
    kernels cannot be differentiated twice; weight normalisation by its formula, as the second
    derivative of torch's kernel is wrong. Random layers draw the same numbers in every pass.

    Where an operation has no second derivative (CTC loss, EmbeddingBag) or the parameters are
    sharded, "auto" takes the next engine; ``jet(...).engine.why`` says so.

    Args:
        closure: computes the scalar loss, forward only.
        params: the point: what the loss is differentiated by. A frozen parameter, or one that the
            loss does not use, counts as constant and gets zeros.
        engine: "auto", "double_backward" (3 times the cost of a gradient), "forward_over_reverse"
            (4 times) or "central_differences" (4 times, with the memory of one gradient; good to
            about 1e-4 in float32 on smooth networks, and not to be trusted across kinks).
        check: compare Hg along a random direction with finite differences (four gradients more).
        across_ranks: the loss is the mean over the ranks of the default process group; every rank
            calls this with a batch of its own. Sharded parameters are averaged in any case.
        allow_nonfinite: give what comes of an infinite or NaN loss instead of raising.

    Raises:
        ValueError: the closure gives no finite scalar with a graph, or uses none of the
            parameters; they lie on several devices; inference mode is on; the engine asked for
            cannot serve; or `check` found Hg wrong.

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
    with Untouched(found, across_ranks=across_ranks) as guard:
        return guarded_jet(guard, closure, engine, check=check, allow_nonfinite=allow_nonfinite)


def guarded_jet(
    guard: Untouched,
    closure: Closure,
    engine: str = "auto",
    *,
    check: bool = False,
    allow_nonfinite: bool = False,
) -> Jet:
    """`jet` inside a guard that is entered already."""
    (loss, gradient, product), served = _serve(guard, closure, engine)
    if not allow_nonfinite:
        _inputs.check_finite(loss)
    checked = check_product(guard, closure, gradient, product, served.name) if check else None
    return Jet(loss, gradient, product, served, checked)


def _serve(guard: Untouched, closure: Closure, engine: str) -> tuple[Parts, Engine]:
    """What the engine asked for gives, or with "auto" the first that can."""
    if engine != "auto":
        if engine not in ENGINES:
            raise ValueError(f"engine must be auto, {', '.join(ENGINES)}, got {engine!r}")
        try:
            return ENGINES[engine](guard, closure), Engine(engine, "as asked for")
        except RuntimeError as error:
            if guard.closure_failed and engine != "forward_over_reverse":
                raise
            raise ValueError(
                f"{engine} cannot serve here ({_line(error)}); try engine='auto'"
            ) from error
    if any(_reduce.is_sharded(p) for p in guard.params):
        name = "central_differences"
        why = "the parameters are sharded, which no second derivative passes"
        return ENGINES[name](guard, closure), Engine(name, why)
    failures = []
    for name, run in ENGINES.items():
        try:
            parts = run(guard, closure)
        except RuntimeError as error:
            if not failures and guard.closure_failed:  # the user's own error
                raise
            failures.append(f"{name} cannot ({_line(error)})")
        else:
            return parts, Engine(name, "; ".join([WHY[name], *failures]))
    raise ValueError(f"no engine can serve: {'; '.join(failures)}")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 250 else f"{text[:247]}..."

"""Three ways to Hg: each takes a guard and a closure and gives loss, g and Hg.

Each raises a RuntimeError, as torch does, where it cannot go.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.grad_mode import _unsafe_preserve_version_counter as unchanged_version

from corridor import _tree
from corridor._types import Tensors
from corridor.geometry import _gradient
from corridor.geometry._guard import Closure, Untouched
from corridor.geometry._moves import Moved
from corridor.geometry._tape import Tape

Parts = tuple[Tensor, list[Tensor], list[Tensor]]


def double_backward(guard: Untouched, closure: Closure) -> Parts:
    """Differentiate ``<g, v>`` at v = g: exact, three times the cost of a gradient."""
    tape = Tape(guard, closure)
    if not guard.across_ranks:
        return tape.loss, tape.gradient, tape.product(tape.gradient, last=True)
    loss, gradient = tape.loss.clone(), [g.clone() for g in tape.gradient]
    _gradient.average([loss, *gradient])  # DDP's own averaging sees no autograd.grad
    product = tape.product(gradient, last=True)
    _gradient.average(product)
    return loss, gradient, product


def forward_over_reverse(guard: Untouched, closure: Closure) -> Parts:
    """Carry the tangent g through forward and backward pass: exact, four times a gradient."""
    loss, gradient = _gradient.evaluate(guard, closure)
    try:
        return loss, gradient, _tangent_of_gradient(guard, closure, gradient, record=False)
    except NotImplementedError:  # recorded, some backward formulas decompose into known ones
        return loss, gradient, _tangent_of_gradient(guard, closure, gradient, record=True)


def _tangent_of_gradient(
    guard: Untouched, closure: Closure, direction: Tensors, *, record: bool
) -> list[Tensor]:
    live = [(p, v) for p, v in zip(guard.params, direction, strict=True) if p.requires_grad]
    with forward_ad.dual_level():
        for p, v in live:
            dual = forward_ad.make_dual(p.detach().clone(), v)
            with torch.no_grad(), unchanged_version(p):
                p.copy_(dual)  # the same values, now with a tangent
        loss = guard.evaluate(closure)
        params = [p for p, _ in live]
        grads = torch.autograd.grad(loss, params, create_graph=record, allow_unused=True)
        found = [None if g is None else forward_ad.unpack_dual(g).tangent for g in grads]
    product = _gradient.filled(found, guard.params)
    if guard.across_ranks:
        _gradient.average(product)
    return product


def central_differences(guard: Untouched, closure: Closure) -> Parts:
    """``(g(theta + s v) - g(theta - s v)) / 2 s`` along v = g / ||g||: four gradients, no graphs.

    The length s balances rounding against truncation: ``eps^(1/3) ||g|| / ||Hg||``, with ``||Hg||``
    from a first, one-sided difference. On smooth networks good to about 1e-4 in float32; across
    kinks it is the mean over the steps, which autodiff does not see.
    """
    loss, gradient = _gradient.evaluate(guard, closure)
    norm = _norm(gradient)
    if norm == 0.0:
        return loss, gradient, [torch.zeros_like(g) for g in gradient]
    eps = _gradient.rounding(guard.params)
    first = eps**0.5 * max(_norm(guard.params), 1.0)
    with Moved(guard.params, gradient) as moved:

        def at(length: float) -> list[Tensor]:
            moved.to(length / norm)
            return _gradient.evaluate(guard, closure)[1]

        rough = _norm(_minus(at(first), gradient)) / first  # of H g / ||g||
        length = eps ** (1 / 3) * norm / rough if rough else first
        length = min(max(length, 0.1 * first), 100.0 * first)
        ahead, behind = at(length), at(-length)
    factor = norm / (2.0 * length)
    return loss, gradient, [factor * d for d in _minus(ahead, behind)]


def _minus(xs: Tensors, ys: Tensors) -> list[Tensor]:
    return [x - y for x, y in zip(xs, ys, strict=True)]


def _norm(tensors: Tensors) -> float:
    return float(_tree.whole_squared_norm([t.detach() for t in tensors])) ** 0.5


ENGINES: dict[str, Callable[[Untouched, Closure], Parts]] = {
    "double_backward": double_backward,
    "forward_over_reverse": forward_over_reverse,
    "central_differences": central_differences,
}

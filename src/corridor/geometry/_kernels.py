"""Find autograd functions whose backward pass has no derivative, or a wrong derivative.

The backward pass of such a function may run a kernel that autograd does not trace, or save
a number without its graph. Then the second derivative is wrong without an error.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, once_differentiable

from corridor import _torch
from corridor._types import LossClosure, Tensors
from corridor.geometry import _gradient
from corridor.geometry._guard import Untouched
from corridor.geometry._nodes import nodes, rounding_of_products

ONCE = once_differentiable(lambda ctx: None).__code__
SEVERAL = 3  # comparisons without a result, after which a function counts as linear
MOSTLY = 0.25  # share of entries that may differ by chance
ULPS = 8  # of rounding in one pass through a function
compared: dict[tuple[Any, float], int] = {}  # by function and precision


class WrongDerivativeError(RuntimeError):
    """Report a wrong second derivative, which autograd computes without an error."""


def evaluate(guard: Untouched, closure: LossClosure) -> Tensor:
    """Return the loss of the closure with its graph, after a comparison of functions in it."""
    loss = guard.evaluate(closure)
    if guard.check is False:
        return loss
    eps = rounding_of_products(guard.eps, loss)
    here = {key: n for key, n in _foreign(loss) if compared.get((key, eps), 0) < SEVERAL}
    if not here:
        return loss
    refuse(here.values())
    _compare(guard, closure, here, eps)
    return guard.evaluate(closure)


def refuse(found: Iterable[Any]) -> None:
    """Raise WrongDerivativeError for nodes with ``once_differentiable`` and fused weight_norm."""
    for node in found:
        if node.name().startswith("WeightNormInterfaceBackward"):
            raise WrongDerivativeError("torch's fused weight_norm has a wrong second derivative")
        backward = getattr(getattr(node, "_forward_cls", None), "backward", None)
        while backward is not None:
            if getattr(backward, "__code__", None) is ONCE:
                raise WrongDerivativeError(f"{node.name()} is marked with @once_differentiable")
            backward = getattr(backward, "__wrapped__", None)


def _compare(guard: Untouched, closure: LossClosure, here: dict[Any, Any], eps: float) -> None:
    """Compare functions with finite differences.

    A function computes ``B(x) dy`` in its backward pass. At fixed dy its derivative along a random
    move of the parameters follows from the graph, and from two more forward passes.
    """
    generator = torch.Generator("cpu").manual_seed(0)

    def normal(like: Any) -> Tensor:
        drawn = torch.randn(like.shape, generator=generator, dtype=torch.float64, device="cpu")
        return drawn.to(device=like.device, dtype=like.dtype)

    def gradients(found: dict[Any, Any]) -> dict[Any, Any]:
        with torch.enable_grad(), guard.layers():
            return {key: _called(found[key], dy[key]) for key in here if key in found}

    sizes = [float(p.detach().abs().square().mean().sqrt()) or 1.0 for p in guard.params]
    move = [normal(p) * size for p, size in zip(guard.params, sizes, strict=True)]
    dy = {
        key: [
            normal(m) if m.dtype.is_floating_point or m.dtype.is_complex else None
            for m in _torch.output_metadata(node)
        ]
        for key, node in here.items()
    }
    rows = [gradients(here)]
    with guard.moving(move) as to:
        for length in (eps ** (1 / 3), -(eps ** (1 / 3))):
            to(length)
            rows.append(gradients(dict(_foreign(guard.evaluate(closure)))))
    for key in here.keys() & rows[1].keys() & rows[2].keys():  # others depend on the point
        parts = [
            _differing(x, a.detach(), b.detach(), eps, _along(x, guard, move))
            for x, a, b in zip(*(row[key] for row in rows), strict=True)
            if all(isinstance(t, Tensor) for t in (x, a, b))
        ]
        share = torch.tensor(max(parts, default=math.nan), dtype=torch.float64, device="cpu")
        share = share.to(guard.params[0].device)
        if guard.across_ranks:
            _gradient.average([share])  # the ranks must decide alike
        if float(share) > MOSTLY:
            raise WrongDerivativeError(
                f"{here[key].name()} has a backward pass whose derivative is wrong in "
                f"{float(share):.0%} of its entries, by finite differences"
            )
        seen = compared.get((key, eps), 0)
        compared[key, eps] = seen + (1 if math.isnan(share) else SEVERAL)


def _differing(x: Tensor, ahead: Tensor, behind: Tensor, eps: float, found: Tensor) -> float:
    """Return the share of smooth entries whose slope differs from ``found``, or NaN."""
    x, difference, length = x.detach(), ahead - behind, eps ** (1 / 3)
    noise = ULPS * eps * (ahead.abs() + behind.abs())
    smooth = (ahead + behind - 2.0 * x).abs() <= 0.25 * difference.abs() + noise
    found = 2.0 * length * found
    size = torch.maximum(difference.abs(), found.abs())
    known = smooth & (size > noise)
    wrong = known & ((difference - found).abs() > (0.05 + length) * size + noise)
    count = int(known.sum())
    return float(wrong.sum()) / count if count else math.nan


def _foreign(loss: Tensor) -> Iterator[tuple[Any, Any]]:
    """Yield the functions in a graph that are neither torch's nor corridor's, with their keys."""
    for node in nodes(loss):
        if isinstance(node, BackwardCFunction):
            origin = node._forward_cls.__module__  # pyright: ignore
            own = origin.split(".")[0] in ("torch", "corridor")
            if not own or origin == "torch._library.autograd":
                yield node._forward_cls, node  # pyright: ignore
        elif node.name().startswith("torch::autograd::CppNode<"):
            yield node.name(), node


def _called(node: Any, dy: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Return what the backward pass of a function computes from gradients of its outputs."""
    found = node.apply(*dy) if isinstance(node, BackwardCFunction) else node(*dy)
    return found if isinstance(found, tuple) else (found,)


def _along(value: Tensor, guard: Untouched, move: Tensors) -> Tensor:
    """Return the derivative of a tensor along a move of the parameters, by its graph."""
    if not value.requires_grad:
        return torch.zeros_like(value)
    dual = torch.zeros_like(value, requires_grad=True)  # the derivative of a vjp by its cotangent
    with guard.layers():
        options = {"create_graph": True, "allow_unused": True}
        rows = torch.autograd.grad(value, guard.params, dual, **options)
        pairs = zip(rows, move, strict=True)
        used = [(row, v) for row, v in pairs if row is not None and row.requires_grad]
        if not used:
            return torch.zeros_like(value)
        rows, vectors = zip(*used, strict=True)
        return torch.autograd.grad(rows, dual, vectors, materialize_grads=True)[0]

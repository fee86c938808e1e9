"""Compute the loss, its gradient g and the product Hg of any closure, by one of three engines."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from corridor import _reduce, _torch, _tree
from corridor._types import LossClosure, Params, Tensors
from corridor.geometry import _gradient, _inputs, _kernels
from corridor.geometry._guard import Moved, Untouched
from corridor.geometry.graph import COMPLETE, record

TOLERANCE = 0.02  # relative, for Hg against finite differences


class Engine(NamedTuple):
    """Name the engine that computed Hg, and the reason: ``name, why = jet.engine``."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@dataclass(frozen=True)
class Comparison:
    """Compare ``<Hg, u>`` with finite differences along one random direction u.

    Attributes:
        expected: ``<Hg, u>`` by finite differences.
        found: ``<Hg, u>`` by the engine.
        uncertainty: distance between the finite differences of two step lengths.
        verdict: "right" or "inconclusive". A wrong Hg raises.
    """

    expected: float
    found: float
    uncertainty: float
    verdict: str


@dataclass(frozen=True)
class Jet:
    """Hold the loss, the gradient and the Hessian-gradient product at a point.

    Attributes:
        loss: E, 0-dim, detached.
        gradient: g, one tensor per parameter, of its shape and dtype.
        hessian_gradient: Hg, in the form of g. It is the gradient of ``||g||^2 / 2``.
        engine: the engine that computed Hg, and the reason.
        checked: the comparison with finite differences, or None without ``check=True``.
    """

    loss: Tensor
    gradient: list[Tensor]
    hessian_gradient: list[Tensor]
    engine: Engine
    checked: Comparison | None = None


def jet(
    closure: LossClosure,
    params: Params | nn.Module,
    *,
    engine: str = "auto",
    check: bool | None = None,
    across_ranks: bool = False,
    allow_nonfinite: bool = False,
) -> Jet:
    """Compute the loss, its gradient g and the product Hg, exact up to rounding.

    The model does not change: parameters, ``.grad``, buffers, random state, modes and hooks are
    the same afterwards. Random layers draw the same numbers in every evaluation. Layers without a
    correct second derivative are computed by formulas, and compiled modules run eagerly.

    Some operations have no second derivative (CTC loss, EmbeddingBag, functions with
    ``once_differentiable``) or a wrong one, and sharded parameters allow none. Then "auto" takes
    the next engine, and ``jet(...).engine.why`` names the reason.

    Args:
        closure: computes the scalar loss, forward only.
        params: a list, parameter groups, named pairs or a module. Frozen and unused parameters
            count as constants and get zeros.
        engine: "auto" (default), "double_backward" (3 times the cost of a gradient),
            "forward_over_reverse" (4 times) or "central_differences" (4 times, in the memory of
            one gradient). Central differences are accurate to about 1e-4 in float32 on smooth
            networks, and not reliable across kinks.
        check: None compares the backward pass of each autograd function that is not torch's with
            finite differences, when it is met first (default). This costs about one gradient. True
            also compares Hg with finite differences along a random direction, at the cost of four
            gradients. False compares nothing.
        across_ranks: True averages over all ranks, each with its own batch (default: False).
            Sharded parameters are always averaged.
        allow_nonfinite: True computes with an infinite or NaN loss (default: False, raise).

    Raises:
        ValueError: the loss is not a finite scalar with a graph or uses none of the parameters,
            the parameters lie on several devices, inference mode is on, the engine cannot compute
            Hg here, or `check` found that Hg is wrong.

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
    with Untouched(found, across_ranks=across_ranks, check=check) as guard:
        return guarded_jet(guard, closure, engine, allow_nonfinite=allow_nonfinite)


def guarded_jet(
    guard: Untouched,
    closure: LossClosure,
    engine: str = "auto",
    *,
    allow_nonfinite: bool = False,
) -> Jet:
    """Compute a `Jet` inside a guard that is already entered. Arguments are those of `jet`."""
    (loss, gradient, product), used = _computed(guard, closure, engine)
    if not allow_nonfinite:
        _inputs.check_finite(loss)
    checked = _compare(guard, closure, gradient, product, used.name) if guard.check else None
    return Jet(loss, gradient, product, used, checked)


Parts = tuple[Tensor, list[Tensor], list[Tensor]]


def double_backward(guard: Untouched, closure: LossClosure) -> Parts:
    """Differentiate ``<g, v>`` at v = g. This is exact, at the cost of three gradients."""
    graph = record(guard, closure)
    if not guard.across_ranks:
        return graph.loss, graph.gradient, graph.product(graph.gradient, last=True)
    loss, gradient = graph.loss.clone(), [g.clone() for g in graph.gradient]
    _gradient.average([loss, *gradient])  # DDP does not average in autograd.grad
    product = graph.product(gradient, last=True)
    _gradient.average(product)
    return loss, gradient, product


def forward_over_reverse(guard: Untouched, closure: LossClosure) -> Parts:
    """Carry the tangent g through both passes. This is exact, at the cost of four gradients."""
    _check_reverse(guard, closure)
    loss, gradient = _gradient.evaluate(guard, closure)
    try:
        product = _tangent_of_gradient(guard, closure, gradient, create_graph=False)
    except NotImplementedError:  # with a graph, some backward formulas decompose into known ones
        product = _tangent_of_gradient(guard, closure, gradient, create_graph=True)
    return loss, gradient, product


def _check_reverse(guard: Untouched, closure: LossClosure) -> None:
    """Raise WrongDerivativeError where double backward raises it: tangents are lost there, too."""
    first = next(p for p in guard.params if p.requires_grad)
    if first not in COMPLETE:
        try:
            double_backward(guard, closure)
        except _kernels.WrongDerivativeError:
            raise
        except RuntimeError:
            pass  # forward mode may support the operation
        COMPLETE[first] = True


def _tangent_of_gradient(
    guard: Untouched, closure: LossClosure, direction: Tensors, *, create_graph: bool
) -> list[Tensor]:
    live = [(p, v) for p, v in zip(guard.params, direction, strict=True) if p.requires_grad]
    with forward_ad.dual_level():
        for p, v in live:
            dual = forward_ad.make_dual(p.detach().clone(), v)
            with torch.no_grad(), _torch.preserve_version(p):
                p.copy_(dual)  # equal values, now with a tangent
        loss = guard.evaluate(closure)
        params = [p for p, _ in live]
        grads = torch.autograd.grad(loss, params, create_graph=create_graph, allow_unused=True)
        found = [None if g is None else forward_ad.unpack_dual(g).tangent for g in grads]
    product = _gradient.filled(found, guard.params)
    if guard.across_ranks:
        _gradient.average(product)
    return product


def central_differences(guard: Untouched, closure: LossClosure) -> Parts:
    """Compute ``(g(theta + s v) - g(theta - s v)) / 2 s`` along ``v = g / ||g||``.

    It costs four gradients and needs no graph of a gradient. The length s balances rounding against
    truncation: ``eps^(1/3) ||g|| / ||Hg||``, where a one-sided difference estimates ``||Hg||``. On
    smooth networks the result is accurate to about 1e-4 in float32. Across kinks it is the mean
    over the step, which differs from the pointwise Hg.
    """
    loss, gradient = _gradient.evaluate(guard, closure)
    norm = _norm(gradient)
    if norm == 0.0:
        return loss, gradient, [torch.zeros_like(g) for g in gradient]
    eps = _gradient.rounding(guard.params)
    first = eps**0.5 * max(_norm(guard.params), 1.0)  # the best length of a one-sided difference
    with Moved(guard, gradient) as moved:

        def at(length: float) -> list[Tensor]:
            moved.to(length / norm)
            return _gradient.evaluate(guard, closure)[1]

        aside = _gradient.minus(at(first), gradient)
        rough = _norm(aside) / first  # of H g / ||g||
        length = eps ** (1 / 3) * norm / rough if rough else first
        length = min(max(length, 0.1 * first), 100.0 * first)  # `rough` can be far off at kinks
        ahead, behind = at(length), at(-length)
    factor = norm / (2.0 * length)
    product = [factor * d for d in _gradient.minus(ahead, behind)]
    spread = _norm([norm / first * a - h for a, h in zip(aside, product, strict=True)])
    size = _norm(product)
    if spread > 0.3 * size + 30.0 * eps * norm * norm / first:
        guard.notes.append(
            f"two lengths of the step disagree by {spread / (size or spread):.0%}, as at kinks"
        )
    return loss, gradient, product


def _norm(tensors: Tensors) -> float:
    return float(_tree.whole_squared_norm([t.detach() for t in tensors])) ** 0.5


ENGINES: dict[str, tuple[Callable[[Untouched, LossClosure], Parts], str]] = {
    "double_backward": (double_backward, "exact, and the cheapest exact engine"),
    "forward_over_reverse": (forward_over_reverse, "exact"),
    "central_differences": (central_differences, "approximate, two gradients on either side"),
}


def _computed(guard: Untouched, closure: LossClosure, name: str) -> tuple[Parts, Engine]:
    """Return the result of the named engine. With "auto" it is the first that succeeds."""
    if name == "auto":
        return _first_that_succeeds(guard, closure)
    if name not in ENGINES:
        raise ValueError(f"engine must be auto, {', '.join(ENGINES)}, got {name!r}; name another")
    try:
        parts = ENGINES[name][0](guard, closure)
        return parts, Engine(name, "; ".join(["as requested", *guard.notes]))
    except RuntimeError as error:
        # Under forward AD an operation in the closure may fail that runs well without it.
        if guard.closure_failed and name != "forward_over_reverse":
            raise
        reason = _inputs.one_line(error, 250)
        raise ValueError(
            f"engine must support all operations, got {name} ({reason}); try engine='auto'"
        ) from error


def _first_that_succeeds(guard: Untouched, closure: LossClosure) -> tuple[Parts, Engine]:
    if any(map(_reduce.is_sharded, guard.params)):
        why = "the parameters are sharded, so there is no second derivative"
        parts = central_differences(guard, closure)
        return parts, Engine("central_differences", "; ".join([why, *guard.notes]))
    failures: list[str] = []
    for name, (run, why) in ENGINES.items():
        try:
            parts = run(guard, closure)
        except RuntimeError as error:
            if not failures and guard.closure_failed:  # the closure itself is wrong
                raise
            failures.append(f"{name} cannot ({_inputs.one_line(error, 250)})")
        else:
            if guard.notes:
                warnings.warn(
                    f"Hg by central differences is uncertain: {guard.notes[-1]}; prefer the "
                    "secant of corridor.measure(step=...)",
                    stacklevel=5,  # the line that calls jet
                )
            return parts, Engine(name, "; ".join([why, *guard.notes, *failures]))
    raise ValueError(f"no engine can compute Hg here: {'; '.join(failures)}")


def _compare(
    guard: Untouched, closure: LossClosure, gradient: Tensors, product: Tensors, engine: str
) -> Comparison:
    """Compare ``<Hg, u>`` with differences of ``||g||^2 / 2`` at two step lengths.

    The direction is ``u = Hg / ||Hg|| + z`` with a random unit vector z. It detects errors in any
    direction, and ``<Hg, u>`` is not small by chance. A warning says that the two lengths disagree.

    Raises:
        ValueError: the differences agree with each other, and not with Hg.
    """
    direction = _random_unit(guard.params)
    size = _norm(product)
    if size > 0.0:
        direction = [h / size + z for h, z in zip(product, direction, strict=True)]
    found = float(_tree.whole_dot(product, direction))
    eps = _gradient.rounding(guard.params)
    length = eps ** (1 / 3) * (_norm(gradient) ** 2 / abs(found) if found else 1.0)
    with Moved(guard, direction) as moved:

        def half_square(length: float) -> float:
            moved.to(length)
            return 0.5 * _norm(_gradient.evaluate(guard, closure)[1]) ** 2

        def slope(length: float) -> float:
            return (half_square(length) - half_square(-length)) / (2.0 * length)

        coarse, fine = slope(length), slope(length / 4.0)  # kinks and rounding depend on the length
    spread = abs(coarse - fine)
    error = min(abs(coarse - found), abs(fine - found))
    if error <= TOLERANCE * max(abs(found), abs(fine)):
        return Comparison(fine, found, spread, "right")
    if spread <= 0.25 * error:
        raise ValueError(
            f"Hg by {engine} is wrong: along a random direction it is {found:.6g}, by finite "
            f"differences {fine:.6g}; choose another engine, and report the layer"
        )
    warnings.warn(
        f"cannot compare Hg: finite differences give {coarse:.4g} and {fine:.4g}, {engine} "
        f"{found:.4g}; the loss has kinks such as ReLU's, or rounding is too large",
        stacklevel=4,  # the line that calls jet
    )
    return Comparison(fine, found, spread, "inconclusive")


def _random_unit(params: Tensors) -> list[Tensor]:
    generator = torch.Generator("cpu").manual_seed(0)  # equal on every device and rank
    drawn = [
        torch.randn(p.shape, generator=generator, device="cpu").to(p)
        if p.requires_grad
        else torch.zeros_like(p)
        for p in params
    ]
    norm = _norm(drawn)
    return [z / norm for z in drawn]

"""Compute the loss, its gradient g and the product Hg of any closure, by one of three engines."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.weak import WeakTensorKeyDictionary

from corridor import _reduce, _torch, _tree
from corridor._types import LossClosure, Params, Tensors
from corridor.geometry import _gradient, _inputs
from corridor.geometry._guard import Untouched
from corridor.geometry._kernels import WrongDerivativeError
from corridor.geometry.graph import record

TOLERANCE = 0.02  # relative, for Hg against finite differences
PASSED = WeakTensorKeyDictionary()  # code of a closure whose graph was complete, by parameter
Parts = tuple[Tensor, list[Tensor], list[Tensor]]


class Engine(NamedTuple):
    """Name the engine that computed Hg, and the reason: ``name, why = jet.engine``."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


class Comparison(NamedTuple):
    """Compare ``<Hg, u>`` with finite differences along one random direction u.

    Attributes:
        expected: ``<Hg, u>`` by finite differences.
        found: ``<Hg, u>`` by the engine.
        uncertainty: distance between the finite differences of two step lengths.
        verdict: "right" or "inconclusive". A wrong Hg raises ValueError.
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

    The model does not change: parameters, ``.grad``, buffers, random state, modes and hooks stay.
    Random layers draw the same numbers in every evaluation. Compiled modules run eagerly.

    Args:
        closure: computes the scalar loss, forward only.
        params: a list, parameter groups, named pairs or a module. Frozen and unused parameters
            count as constants and get zeros.
        engine: "auto" (default: the first possible engine), "double_backward" (costs 3 gradients),
            "forward_over_reverse" (4) or "central_differences" (4, in the memory of one gradient;
            accurate to about 1e-4 in float32, and not reliable across kinks).
        check: None compares the backward pass of each autograd function that is not torch's with
            finite differences, once, at the cost of one gradient (default). True also compares Hg
            along a random direction, at the cost of four gradients. False compares nothing.
        across_ranks: True averages over all ranks, each with its own batch (default: False).
            Sharded parameters are always averaged.
        allow_nonfinite: True computes with an infinite or NaN loss (default: False, raise).

    Raises:
        ValueError: the loss is not a finite scalar with a graph or uses none of the parameters,
            they lie on several devices, inference mode is on, the engine cannot compute Hg here,
            or `check` found that Hg is wrong.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> found = jet(lambda: (x**3).sum(), [x])
        >>> found.gradient, found.hessian_gradient  # 3 x^2 and 6 x * 3 x^2
        ([tensor([ 3., 12.])], [tensor([ 18., 144.])])
    """
    with Untouched(params, across_ranks=across_ranks, check=check) as guard:
        jet = guarded_jet(guard, closure, engine, allow_nonfinite=allow_nonfinite)
        whole = {name: guard.whole(getattr(jet, name)) for name in ("gradient", "hessian_gradient")}
    return replace(jet, **whole)


def guarded_jet(
    guard: Untouched, closure: LossClosure, engine: str, *, allow_nonfinite: bool
) -> Jet:
    """Compute the `Jet` of the parameters of an entered guard, which all require a gradient."""
    (loss, gradient, product), used = _computed(guard, closure, engine)
    if not allow_nonfinite:
        _inputs.check_finite(loss)
    checked = _compare(guard, closure, gradient, product, used.name) if guard.check else None
    return Jet(loss, gradient, product, used, checked)


def double_backward(guard: Untouched, closure: LossClosure) -> Parts:
    """Differentiate ``<g, v>`` at v = g. This is exact, at the cost of three gradients."""
    graph = record(guard, closure)
    return graph.loss, graph.gradient, graph.product(graph.gradient, last=True)


def forward_over_reverse(guard: Untouched, closure: LossClosure) -> Parts:
    """Carry the tangent g through both passes. This is exact, at the cost of four gradients."""
    loss, gradient = _gradient.evaluate(guard, closure)
    try:
        product = _tangent_of_gradient(guard, closure, gradient, create_graph=False)
    except NotImplementedError:  # with a graph, some backward formulas decompose into known ones
        product = _tangent_of_gradient(guard, closure, gradient, create_graph=True)
    return loss, gradient, product


def _tangent_of_gradient(
    guard: Untouched, closure: LossClosure, direction: Tensors, *, create_graph: bool
) -> list[Tensor]:
    with forward_ad.dual_level():
        for p, v in zip(guard.params, direction, strict=True):
            dual = forward_ad.make_dual(p.detach().clone(), v)
            with torch.no_grad(), _torch.preserve_version(p):
                p.copy_(dual)  # equal values, now with a tangent
        loss = guard.evaluate(closure)
        with guard.layers():
            grads = torch.autograd.grad(
                loss, guard.params, create_graph=create_graph, allow_unused=True
            )
        found = [None if g is None else forward_ad.unpack_dual(g).tangent for g in grads]
    product = _gradient.filled(found, guard.params)
    if guard.across_ranks:
        _gradient.average(product)
    return product


def central_differences(guard: Untouched, closure: LossClosure) -> Parts:
    """Compute ``(g(theta + s v) - g(theta - s v)) / 2 s`` along ``v = g / ||g||``.

    It costs four gradients and needs no graph of a gradient. The length s balances rounding against
    truncation: ``eps^(1/3) ||g|| / ||Hg||``, where a one-sided difference estimates ``||Hg||``.
    """
    loss, gradient = _gradient.evaluate(guard, closure)
    norm = _norm(gradient)
    if norm == 0.0:
        return loss, gradient, [torch.zeros_like(g) for g in gradient]
    eps = guard.eps
    first = eps**0.5 * max(_norm(guard.params), 1.0)  # the best length of a one-sided difference
    with guard.moving(gradient) as to:

        def at(length: float) -> list[Tensor]:
            to(length / norm)
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


def _computed(guard: Untouched, closure: LossClosure, engine: str) -> tuple[Parts, Engine]:
    """Return the result of an engine. "auto" means the first engine that succeeds."""
    plan = {name: why for name, (_, why) in ENGINES.items()}
    if engine in ENGINES:
        plan = {engine: "as requested"}
    elif engine != "auto":
        raise ValueError(f"engine must be auto, {' or '.join(ENGINES)}, got {engine!r}; change it")
    elif any(map(_reduce.is_sharded, guard.params)):
        plan = {"central_differences": "sharded parameters have no second derivative"}
    failures: dict[str, str] = {}
    lost = False
    for name, why in plan.items():
        run, _ = ENGINES[name]
        if lost and run is forward_over_reverse:  # tangents are lost where graphs are lost
            continue
        try:
            if engine == name and run is forward_over_reverse:
                _check_reverse(guard, closure)
            parts = run(guard, closure)
        except RuntimeError as error:
            # Under forward AD an operation in the closure may fail that runs well without it.
            if guard.closure_failed and not failures and run is not forward_over_reverse:
                raise
            lost = isinstance(error, WrongDerivativeError)
            failures[name] = _inputs.one_line(error, 250)
        else:
            if guard.notes and engine == "auto":
                warnings.warn(
                    f"Hg by central differences is uncertain: {guard.notes[-1]}; prefer the "
                    "secant of corridor.measure(step=...)",
                    stacklevel=4,  # the line that calls jet
                )
            others = [f"{other} cannot ({reason})" for other, reason in failures.items()]
            return parts, Engine(name, "; ".join([why, *guard.notes, *others]))
    got = ", ".join(f"{name} ({reason})" for name, reason in failures.items())
    remedy = "change the loss" if engine == "auto" else "try engine='auto'"
    raise ValueError(f"engine must support all operations, got {got}; {remedy}")


def _check_reverse(guard: Untouched, closure: LossClosure) -> None:
    """Raise WrongDerivativeError where double backward raises it: tangents are lost there, too."""
    code = getattr(closure, "__code__", None)
    if code is None or PASSED.get(guard.params[0]) is not code:
        try:
            double_backward(guard, closure)
        except RuntimeError as error:  # forward mode may support the operation
            if isinstance(error, WrongDerivativeError):
                raise
        PASSED[guard.params[0]] = code


def _compare(
    guard: Untouched, closure: LossClosure, gradient: Tensors, product: Tensors, engine: str
) -> Comparison:
    """Compare ``<Hg, u>`` with differences of ``||g||^2 / 2`` at two step lengths.

    The direction is ``u = Hg / ||Hg|| + z`` with a random unit vector z. It detects errors in any
    direction, and ``<Hg, u>`` is not small by chance. If the lengths disagree, there is a warning.
    """
    generator = torch.Generator("cpu").manual_seed(0)  # equal on every device and rank
    drawn = [torch.randn(p.shape, generator=generator, device="cpu").to(p) for p in guard.params]
    length, size = _norm(drawn), _norm(product)
    pairs = zip(product, drawn, strict=True)
    direction = [h / (size or 1.0) + z / length for h, z in pairs]
    found = float(_tree.whole_dot(product, direction))
    length = guard.eps ** (1 / 3) * (_norm(gradient) ** 2 / abs(found) if found else 1.0)
    with guard.moving(direction) as to:

        def square(length: float) -> float:
            to(length)
            return _norm(_gradient.evaluate(guard, closure)[1]) ** 2

        lengths = (length, length / 4.0)  # kinks and rounding depend on the length
        coarse, fine = ((square(s) - square(-s)) / (4.0 * s) for s in lengths)
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
        stacklevel=4,
    )
    return Comparison(fine, found, spread, "inconclusive")

"""Make a surface from text, with the domain and the verdict that follow from its formula."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, partial, reduce
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from corridor.proofs import Proof, Verdict, prove
from corridor.proofs.expression import Tree, evaluate, named_variables, parse
from corridor.surfaces.base import Domain, Surface, norm

RADII = 4.0 ** torch.arange(2, -26, -1, dtype=torch.float64)  # relative to the point's size


class Expression(Surface):
    """Compute a formula. Its domain comes from its parts, and its verdict from `corridor.prove`.

    Args:
        text: the formula, as for `corridor.proofs.expression.parse`.
        variables: names in the order of a point's coordinates. Default: those that occur,
            alphabetically.

    Raises:
        ValueError: the text cannot be read, or contains variables that are not named.

    Example:
        >>> import torch
        >>> loss = Expression("sqrt(x**2 + y**2)")
        >>> float(loss(torch.tensor([3.0, 4.0]))), loss.verdict.value, loss.speed
        (5.0, 'corridor', 1.0)
    """

    f_star = -float("inf")

    def __init__(self, text: str, variables: Sequence[str] | None = None) -> None:
        self.tree = parse(text)
        self.expression = text
        self.variables = named_variables(self.tree, variables)
        self.dimension = len(self.variables)
        self.domain = Domain("where all parts of the formula are real and smooth", self._margin)

    def value(self, x: Tensor) -> Tensor:
        """Return the formula at points [..., n]."""
        values = dict(zip(self.variables, x.unbind(-1), strict=True))
        return evaluate(self.tree, values, x[..., 0])

    @cached_property
    def proof(self) -> Proof | None:
        """Return the proof, None without SymPy or without a real value."""
        try:
            return prove(str(self.expression), self.variables)
        except (ImportError, ValueError):
            return None

    @property
    def verdict(self) -> Verdict:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the verdict of the proof, which is computed once, at the first use."""
        return Verdict.UNDECIDED if self.proof is None else self.proof.verdict

    @property
    def speed(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the speed of the proof."""
        speed = None if self.proof is None else self.proof.speed
        return None if speed is None else float(speed)

    def _margin(self, x: Tensor) -> Tensor:
        return _Rooms(self.variables, x.detach()).margin(self.tree)


class _Part(NamedTuple):
    """Bound a part of a formula in balls of several radii around points.

    Attributes:
        at: value at the points, [...].
        low: lower bound in the balls, [radii, ...].
        high: upper bound in the balls.
        slopes: upper bounds of the partial derivatives' absolute values, [radii, ..., n].
    """

    at: Tensor
    low: Tensor
    high: Tensor
    slopes: Tensor

    @property
    def size(self) -> Tensor:
        """Return the largest absolute value."""
        return torch.maximum(self.low.abs(), self.high.abs())

    @property
    def least(self) -> Tensor:
        """Return the smallest absolute value."""
        return torch.maximum(self.low, -self.high).clamp(min=0.0)


class _Rooms:
    """Collect the distances from points to the kinks and edges of a formula's parts."""

    def __init__(self, variables: Sequence[str], x: Tensor) -> None:
        self.like = x[..., 0]
        radii = RADII.to(x).reshape(-1, *[1] * (x.dim() - 1))
        self.radii = radii * (1.0 + norm(x))
        self.parts: dict[str, _Part] = {}
        self.values = dict(zip(variables, x.unbind(-1), strict=True))
        for i, (name, at) in enumerate(self.values.items()):
            slopes = torch.zeros(*self.radii.shape, len(variables), dtype=x.dtype, device=x.device)
            slopes[..., i] = 1.0
            self.parts[name] = _Part(at, at - self.radii, at + self.radii, slopes)
        self.found = torch.full_like(self.like, torch.inf)

    def margin(self, tree: Tree) -> Tensor:
        """Return the distance to the nearest kink or edge, negative where the formula is not real.

        In a ball where ``||grad u|| <= L`` the part u is not 0 nearer than ``|u| / L``.
        """
        whole = self._walk(tree, torch.ones_like(self.like, dtype=torch.bool))
        return torch.where(torch.isnan(whole.at), -self.found.abs(), self.found)

    def _room(self, u: Tensor, slopes: Tensor) -> Tensor:
        """Return a lower bound of the distance to the zeros of u, with the sign of u."""
        far = (u.abs() / norm(slopes)).nan_to_num(torch.inf, posinf=torch.inf)
        return torch.minimum(self.radii, far).amax(0) * torch.where(u < 0.0, -1.0, 1.0)

    def _gap(self, a: _Part, b: _Part) -> Tensor:
        return self._room(a.at - b.at, a.slopes + b.slopes).abs()

    def _walk(self, tree: Tree, active: Tensor) -> _Part:
        """Return the bounds of a part, and note the edges inside it where it is active."""
        head, *parts = tree
        if head == "Symbol":
            return self.parts[parts[0]]
        if head == "Piecewise":
            return self._pieces(parts, active)
        if head in ("Rational", "pi", "true"):
            at = evaluate(tree, self.values, self.like).to(self.like)
            flat = torch.zeros_like(next(iter(self.parts.values())).slopes)
            return _Part(at, at + 0.0 * self.radii, at + 0.0 * self.radii, flat)
        args = [self._walk(part, active) for part in parts]
        for room in self._edges(head, args, parts):
            self.found = torch.where(active, torch.minimum(self.found, room), self.found)
        return _bounds(head, args, parts)

    def _pieces(self, pieces: Sequence[Any], active: Tensor) -> _Part:
        """Return the bounds of the pieces together; the edges of a piece count where it holds."""
        at, whole = torch.full_like(self.like, torch.nan), None
        for value, condition in pieces:
            self._walk(condition, active)
            holds = evaluate(condition, self.values, self.like)
            part = self._walk(value, holds & active)
            at = torch.where(active & holds, part.at, at)
            whole = part if whole is None else _either(whole, part, torch.minimum, torch.maximum)
            active = active & ~holds
        assert whole is not None
        return whole._replace(at=at)

    def _edges(self, head: str, args: list[_Part], trees: Sequence[Tree]) -> list[Tensor]:
        """Return the distances to the edges of one part, negative where it is not real."""
        u = args[0]
        if head in ("Max", "Min"):
            # Arguments that are not the largest may be equal without a kink.
            top = _bounds(head, args, trees).at
            pairs = [(a, b, (a.at == top) | (b.at == top)) for a, b in combinations(args, 2)]
            return [torch.where(seen, self._gap(a, b), torch.inf) for a, b, seen in pairs]
        if head.endswith("Than"):
            return [self._gap(u, args[1])]
        if head in ("Pow", "sqrt", "log"):
            whole = head == "Pow" and trees[1][0] == "Rational" and trees[1][2] == 1
            if whole and trees[1][1] >= 0:
                return []
            room = self._room(u.at, u.slopes)
            return [room.abs() if whole else room]
        if head in ("asin", "acos"):
            return [self._room(1.0 - u.at.abs(), u.slopes)]
        if head == "tan":
            return [self._room(u.at.cos(), u.slopes).abs()]
        if head == "atan2":
            side = self._room(args[1].at, args[1].slopes)
            return [torch.maximum(self._room(u.at, u.slopes).abs(), side)]
        return [self._room(u.at, u.slopes).abs()] if head in ("Abs", "sign") else []


def _either(a: _Part, b: _Part, lower: Any, upper: Any) -> _Part:
    """Return bounds of a value that is one of two parts."""
    slopes = torch.maximum(a.slopes, b.slopes)
    return _Part(lower(a.at, b.at), lower(a.low, b.low), upper(a.high, b.high), slopes)


def _bounds(head: str, args: list[_Part], trees: Sequence[Tree]) -> _Part:
    """Return the bounds of a function of parts."""
    u, *rest = args
    if head == "Add":
        return _Part(*(reduce(torch.add, column) for column in zip(*args, strict=True)))
    if head == "Mul":
        return reduce(_product, args)
    if head in ("Max", "Min"):
        larger = torch.maximum if head == "Max" else torch.minimum
        return reduce(partial(_either, lower=larger, upper=larger), args)
    if head.endswith("Than") or head in ("And", "Or", "Not"):
        return u  # a condition has no bounds
    if head == "atan2":
        near = torch.hypot(u.least, rest[0].least)[..., None]
        turn = torch.full_like(u.low, math.pi)
        slopes = _scaled(u.slopes + rest[0].slopes, 1.0 / near)
        return _Part(torch.atan2(u.at, rest[0].at), -turn, turn, slopes)
    if head == "Pow" and trees[1][0] != "Rational":
        return _function("exp", _product(rest[0], _function("log", u)))
    power = trees[1][1] / trees[1][2] if head == "Pow" else 0.5
    return _power(u, power) if head in ("Pow", "sqrt") else _function(head, u)


def _scaled(slopes: Tensor, factor: Tensor) -> Tensor:
    return torch.where(slopes == 0.0, 0.0, slopes * factor)  # 0 times inf is 0


def _product(a: _Part, b: _Part) -> _Part:
    corners = torch.stack([a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high])
    corners = torch.where(torch.isnan(corners), 0.0, corners)  # 0 times inf is 0
    slopes = _scaled(a.slopes, b.size[..., None]) + _scaled(b.slopes, a.size[..., None])
    return _Part(a.at * b.at, corners.amin(0), corners.amax(0), slopes)


def _power(u: _Part, power: float) -> _Part:
    if power < 0.0:
        below = _power(u, -power)
        safe = (below.low > 0.0) | (below.high < 0.0)
        low, high = 1.0 / below.high, 1.0 / below.low
        slopes = _scaled(u.slopes, -power * u.least[..., None] ** (power - 1.0))
        low, high = torch.where(safe, low, -torch.inf), torch.where(safe, high, torch.inf)
        return _Part(1.0 / below.at, low, high, slopes)
    if power == int(power):
        odd = int(power) % 2 == 1
        low, high = (u.low, u.high) if odd else (u.least, u.size)
    else:
        low, high = u.low.clamp(min=0.0), u.high.clamp(min=0.0)
    steep = u.size if power >= 1.0 else low
    slope = abs(power) * steep ** (power - 1.0) if power else torch.zeros_like(steep)
    return _Part(u.at**power, low**power, high**power, _scaled(u.slopes, slope[..., None]))


def _function(head: str, u: _Part) -> _Part:
    """Return the bounds of a function of one part."""
    function = {"Abs": torch.abs, "sign": torch.sign}.get(head) or getattr(torch, head)
    low, high, one = u.low, u.high, torch.ones_like(u.low)
    steep = one
    if head in ("sin", "cos"):
        middle, reach = function((low + high) / 2.0), (high - low) / 2.0
        low, high = (middle - reach).clamp(min=-1.0), (middle + reach).clamp(max=1.0)
    elif head == "tan":
        room = ((low + high) / 2.0).cos().abs() - (high - low) / 2.0
        low = torch.where(room > 0.0, low.tan(), -torch.inf)
        high = torch.where(room > 0.0, high.tan(), torch.inf)
        steep = 1.0 / room.clamp(min=0.0).square()
    elif head in ("asin", "acos"):
        ends = function(low.clamp(-1.0, 1.0)), function(high.clamp(-1.0, 1.0))
        low, high = torch.minimum(*ends), torch.maximum(*ends)
        steep = (1.0 - u.size.square()).clamp(min=0.0).rsqrt()
    elif head in ("Abs", "cosh"):
        low, high = function(u.least), function(u.size)
        steep = one if head == "Abs" else u.size.sinh()
    else:
        low, high = (low.clamp(min=0.0), high.clamp(min=0.0)) if head == "log" else (low, high)
        steep = {"exp": high.exp(), "log": 1.0 / low, "sinh": u.size.cosh()}.get(head, one)
        low, high = function(low), function(high)
    return _Part(function(u.at), low, high, _scaled(u.slopes, steep[..., None]))

"""Make a surface from text, with the domain and the verdict that follow from its formula."""

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, reduce
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from corridor.proofs import Proof, Verdict, prove
from corridor.proofs.expression import FUNCTIONS, Tree, evaluate, named_variables, parse
from corridor.surfaces.base import Domain, Surface

RADII = 4.0 ** torch.arange(2, -26, -1, dtype=torch.float64)  # relative to the point's size
EDGED = {"Pow", "sqrt", "log", "asin", "acos", "tan", "atan2", "Abs", "sign"}  # besides Max and Min


class Expression(Surface):
    """Compute a formula. Its domain comes from its parts, and its verdict from `corridor.prove`.

    Args:
        text: the formula, as for `corridor.proofs.expression.parse`.
        variables: names in the order of a point's coordinates. Default: the names that occur.

    Raises:
        ValueError: the text cannot be read, or contains variables that are not named.

    Example:
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
        self.domain = Domain(
            "where all parts of the formula are real and smooth",
            lambda x: _Rooms(self.variables, x.detach()).margin(self.tree),
        )

    def value(self, x: Tensor) -> Tensor:
        values = dict(zip(self.variables, x.unbind(-1), strict=True))
        return evaluate(self.tree, values, x[..., 0])

    @cached_property
    def proof(self) -> Proof | None:
        """Return the proof, made at the first use; None without SymPy or without a real value."""
        with suppress(ImportError, ValueError):
            return prove(str(self.expression), self.variables)

    @property
    def verdict(self) -> Verdict:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Verdict.UNDECIDED if self.proof is None else self.proof.verdict

    @property
    def speed(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        speed = getattr(self.proof, "speed", None)
        return None if speed is None else float(speed)


class _Part(NamedTuple):
    """Bound a part of a formula in balls of several radii around points."""

    low: Tensor  # lower bound of the values, [radii, ...]
    high: Tensor
    slopes: Tensor  # upper bounds of the partial derivatives' absolute values, [radii, ..., n]

    @property
    def size(self) -> Tensor:
        return torch.maximum(self.low.abs(), self.high.abs())

    @property
    def least(self) -> Tensor:
        return torch.maximum(self.low, -self.high).clamp(min=0.0)


class _Rooms:
    """Collect distances to kinks and edges: u is not 0 nearer than ``|u| / max ||grad u||``."""

    def __init__(self, variables: Sequence[str], x: Tensor) -> None:
        self.like = x[..., 0]
        self.radii = RADII.to(x).reshape(-1, *[1] * (x.dim() - 1)) * (1.0 + x.norm(dim=-1))
        self.values = dict(zip(variables, x.unbind(-1), strict=True))
        self.found = torch.full_like(self.like, torch.inf)

    def margin(self, tree: Tree) -> Tensor:
        """Return the distance to the nearest edge, negative where the formula is not real."""
        self._walk(tree, torch.ones_like(self.like, dtype=torch.bool))
        return torch.where(torch.isnan(self._at(tree)), -self.found.abs(), self.found)

    def _at(self, tree: Tree) -> Tensor:
        return evaluate(tree, self.values, self.like)

    def _room(self, u: Tensor, slopes: Tensor) -> Tensor:
        """Return a lower bound of the distance to the zeros of u, with the sign of u."""
        far = (u.abs() / slopes.norm(dim=-1)).nan_to_num(torch.inf, posinf=torch.inf)
        return torch.minimum(self.radii, far).amax(0) * torch.where(u < 0.0, -1.0, 1.0)

    def _walk(self, tree: Tree, active: Tensor) -> _Part:
        """Return the bounds of a part, and note the edges inside it where it is active."""
        head, *parts = tree
        if head == "Piecewise":
            bounds = []
            for value, condition in parts:
                self._walk(condition, active)
                holds = self._at(condition)
                bounds.append(self._walk(value, holds & active))
                active = active & ~holds
            return _either(bounds, torch.minimum, torch.maximum)
        if head in ("Symbol", "Rational", "pi", "true"):
            at, reach = self._at(tree).to(self.like), self.radii * (head == "Symbol")
            slopes = torch.tensor([parts == [name] for name in self.values]).to(at)
            return _Part(at - reach, at + reach, slopes.expand(*reach.shape, -1))
        args = [self._walk(part, active) for part in parts]
        for room in self._edges(head, args, parts):
            self.found = torch.where(active, torch.minimum(self.found, room), self.found)
        return _bounds(head, args, parts)

    def _edges(self, head: str, args: list[_Part], trees: Sequence[Tree]) -> list[Tensor]:
        """Return the distances to the edges of one part, negative where it is not real."""
        if head in ("Max", "Min"):
            # Arguments that are not the largest may be equal without a kink.
            top, pairs = self._at([head, *trees]), zip(map(self._at, trees), args, strict=True)
            rooms = [
                ((u == top) | (v == top), self._room(u - v, a.slopes + b.slopes).abs())
                for (u, a), (v, b) in combinations(pairs, 2)
            ]
            return [torch.where(meets, room, torch.inf) for meets, room in rooms]
        compared = head.endswith("Than")
        whole = head == "Pow" and trees[1][0] == "Rational" and trees[1][2] == 1
        if not compared and (head not in EDGED or (whole and trees[1][1] >= 0)):
            return []
        u, slopes = self._at(trees[0]), args[0].slopes
        if compared:
            u, slopes = u - self._at(trees[1]), slopes + args[1].slopes
        u = {"asin": 1.0 - u.abs(), "acos": 1.0 - u.abs(), "tan": u.cos()}.get(head, u)
        room = self._room(u, slopes)
        if head == "atan2":
            return [torch.maximum(room.abs(), self._room(self._at(trees[1]), args[1].slopes))]
        one_sided = head in ("sqrt", "log", "asin", "acos") or (head == "Pow" and not whole)
        return [room if one_sided else room.abs()]


def _either(parts: Sequence[_Part], lower: Any, upper: Any) -> _Part:
    """Return bounds of a value that is one of some parts."""
    low, high, slopes = zip(*parts, strict=True)
    return _Part(reduce(lower, low), reduce(upper, high), reduce(torch.maximum, slopes))


def _bounds(head: str, args: list[_Part], trees: Sequence[Tree]) -> _Part:
    u, *rest = args
    if head == "Add":
        return _Part(*(reduce(torch.add, column) for column in zip(*args, strict=True)))
    if head == "Mul":
        return reduce(_product, args)
    if head in ("Max", "Min"):
        return _either(args, FUNCTIONS[head], FUNCTIONS[head])
    if head.endswith("Than") or head in ("And", "Or", "Not"):
        return u  # a condition has no bounds
    if head == "atan2":
        near = torch.hypot(u.least, rest[0].least)[..., None]
        turn = torch.full_like(u.low, math.pi)
        return _Part(-turn, turn, _scaled(u.slopes + rest[0].slopes, 1.0 / near))
    if head == "Pow" and trees[1][0] != "Rational":
        return _function("exp", _product(rest[0], _function("log", u)))
    power = trees[1][1] / trees[1][2] if head == "Pow" else 0.5
    return _power(u, power) if head in ("Pow", "sqrt") else _function(head, u)


def _scaled(slopes: Tensor, factor: Tensor) -> Tensor:
    return torch.where(slopes == 0.0, 0.0, slopes * factor)  # 0 times inf is 0


def _product(a: _Part, b: _Part) -> _Part:
    corners = torch.stack([a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high])
    corners = torch.where(torch.isnan(corners), 0.0, corners)
    slopes = _scaled(a.slopes, b.size[..., None]) + _scaled(b.slopes, a.size[..., None])
    return _Part(corners.amin(0), corners.amax(0), slopes)


def _power(u: _Part, power: float) -> _Part:
    if power < 0.0:
        below = _power(u, -power)
        safe = (below.low > 0.0) | (below.high < 0.0)
        slopes = _scaled(u.slopes, -power * u.least[..., None] ** (power - 1.0))
        low = torch.where(safe, 1.0 / below.high, -torch.inf)
        return _Part(low, torch.where(safe, 1.0 / below.low, torch.inf), slopes)
    if power != int(power):
        low, high = u.low.clamp(min=0.0), u.high.clamp(min=0.0)
    else:
        low, high = u[:2] if power % 2 else (u.least, u.size)
    steep = u.size if power >= 1.0 else low
    slope = power * steep ** (power - 1.0) if power else torch.zeros_like(steep)
    return _Part(low**power, high**power, _scaled(u.slopes, slope[..., None]))


def _function(head: str, u: _Part) -> _Part:
    function, low, high, size = FUNCTIONS[head], u.low, u.high, u.size
    middle, reach, steep = (low + high) / 2.0, (high - low) / 2.0, torch.ones_like(low)
    if head in ("sin", "cos"):
        middle = function(middle)
        low, high = (middle - reach).clamp(min=-1.0), (middle + reach).clamp(max=1.0)
    elif head == "tan":
        room = middle.cos().abs() - reach
        low = torch.where(room > 0.0, low.tan(), -torch.inf)
        high = torch.where(room > 0.0, high.tan(), torch.inf)
        steep = 1.0 / room.clamp(min=0.0).square()
    elif head in ("Abs", "cosh"):
        low, high = function(u.least), function(size)
        steep = steep if head == "Abs" else size.sinh()
    else:  # a monotone function
        edges = {"log": (0.0, None), "asin": (-1.0, 1.0), "acos": (-1.0, 1.0)}
        low, high = (end.clamp(*edges.get(head, (-math.inf, None))) for end in (low, high))
        if head in ("asin", "acos"):
            steep = (1.0 - size.square()).clamp(min=0.0).rsqrt()
        steep = {"exp": high.exp(), "log": 1.0 / low, "sinh": size.cosh()}.get(head, steep)
        ends = function(low), function(high)
        low, high = torch.minimum(*ends), torch.maximum(*ends)
    return _Part(low, high, _scaled(u.slopes, steep[..., None]))

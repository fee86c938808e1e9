"""Formulas as data: text to a tree of known nodes, never to code, and a tree to a torch loss.

A tree is made of lists that JSON can carry: ``["num", p, q]``, ``["sym", name]``, ``["pi"]``,
``["add", ...]``, ``["mul", ...]``, ``["pow", base, exponent]``, ``["call", name, ...]`` and
``["piece", [value, condition], ...]``; conditions are ``["cmp", sign, left, right]``,
``["and", ...]``, ``["or", ...]``, ``["not", c]`` and ``["true"]``.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any, TypeAlias

import torch
from torch import Tensor

from corridor.surfaces.base import Surface, Verdict

Tree: TypeAlias = list[Any]

LONGEST = 2000  # characters
DEEPEST = 60
LARGEST_EXPONENT = 100

ONE_ARGUMENT: dict[str, Callable[[Tensor], Tensor]] = {
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "log": torch.log,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "abs": torch.abs,
    "sign": torch.sign,
}
SEVERAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "atan2": torch.atan2,
    "max": torch.maximum,
    "min": torch.minimum,
}
OTHER_NAMES = {"ln": "log", "Abs": "abs", "Max": "max", "Min": "min"}
SIGNS: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def parse(text: str) -> Tree:
    """The tree of a formula such as ``sqrt(x**2 + y**2)``.

    Python's grammar, of which only numbers, names, ``+ - * / **``, comparisons, ``a if c else b``
    and calls of the known functions are let through; everything else is refused, and nothing is
    ever evaluated. Known are sqrt, exp, log (ln), sin, cos, tan, asin, acos, atan, atan2, sinh,
    cosh, tanh, abs, sign, max, min and ``Piecewise((value, condition), ..., (value, True))``.
    Decimals are taken as exact fractions.

    Raises:
        ValueError: the text is no such formula; the message points at what is wrong.

    Example:
        >>> parse("2*x + 0.5")
        ['add', ['mul', ['num', 2, 1], ['sym', 'x']], ['num', 1, 2]]
    """
    return _Reader().value(_grammar(text))


def parse_condition(text: str) -> Tree:
    """The tree of a condition such as ``x > 0 and x**2 + y**2 < 1``.

    Raises:
        ValueError: the text is no condition.
    """
    return _Reader().condition(_grammar(text))


def variables_of(tree: Tree) -> list[str]:
    """Names that occur, in alphabetical order; x2 before x10."""
    found: set[str] = set()

    def walk(node: Tree) -> None:
        if node[0] == "sym":
            found.add(node[1])
        for part in node:
            if isinstance(part, list):
                walk(part)

    walk(tree)
    return sorted(found, key=lambda name: (name.rstrip("0123456789"), len(name), name))


def _grammar(text: str) -> ast.expr:
    if not isinstance(text, str):
        raise ValueError(f"an expression is text, got {type(text).__name__}")
    if len(text) > LONGEST:
        raise ValueError(f"the expression is longer than {LONGEST} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's own, about odd spellings
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise ValueError(f"the expression cannot be read: {reason}") from None


class _Reader:
    """Grammar nodes to tree nodes, a whitelist at every step."""

    def __init__(self) -> None:
        self.depth = 0

    def value(self, node: ast.AST) -> Tree:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"the expression is nested deeper than {DEEPEST} levels")
        try:
            return self._value(node)
        finally:
            self.depth -= 1

    def _value(self, node: ast.AST) -> Tree:
        match node:
            case ast.Constant(value=bool()):
                raise ValueError("True and False stand for conditions only")
            case ast.Constant(value=int() | float() as number):
                return _number(number)
            case ast.Name(id="pi"):
                return ["pi"]
            case ast.Name(id=name):
                return ["sym", _plain(name)]
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return ["mul", ["num", -1, 1], self.value(inner)]
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return self.value(inner)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return ["add", *self._chain(node, ast.Add, ast.Sub)]
            case ast.BinOp(op=ast.Mult() | ast.Div()):
                return ["mul", *self._chain(node, ast.Mult, ast.Div)]
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return ["pow", self.value(left), _exponent(self.value(right))]
            case ast.BinOp(op=ast.BitXor()):
                raise ValueError("^ is no power here; write **")
            case ast.BinOp(op=op):
                raise ValueError(f"the operator {type(op).__name__} has no place in an expression")
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(OTHER_NAMES.get(name, name), args)
            case ast.IfExp(test=test, body=body, orelse=other):
                pieces = [[self.value(body), self.condition(test)], [self.value(other), ["true"]]]
                return ["piece", *pieces]
        raise ValueError(f"{_words(node)} has no place in an expression")

    def _chain(self, node: ast.AST, direct: type, inverse: type) -> list[Tree]:
        """The terms of a sum, or the factors of a product, however many, in order."""
        parts: list[Tree] = []
        minus = ["num", -1, 1]
        while isinstance(node, ast.BinOp) and isinstance(node.op, direct | inverse):
            right = self.value(node.right)
            if isinstance(node.op, inverse):
                right = ["mul", minus, right] if direct is ast.Add else ["pow", right, minus]
            parts.append(right)
            node = node.left
        return [self.value(node), *reversed(parts)]

    def _call(self, name: str, args: list[ast.expr]) -> Tree:
        if name == "Piecewise":
            return ["piece", *(self._piece(arg) for arg in args)]
        if name in ONE_ARGUMENT:
            wanted = len(args) == 1
        elif name in SEVERAL:
            wanted = len(args) == 2 if name == "atan2" else len(args) >= 2
        else:
            known = ", ".join([*ONE_ARGUMENT, *SEVERAL, "Piecewise"])
            raise ValueError(f"unknown function {name!r}; known are {known}")
        if not wanted or any(isinstance(arg, ast.Starred) for arg in args):
            raise ValueError(f"{name} was called with {len(args)} arguments")
        return ["call", name, *(self.value(arg) for arg in args)]

    def _piece(self, node: ast.expr) -> Tree:
        match node:
            case ast.Tuple(elts=[value, condition]):
                return [self.value(value), self.condition(condition)]
        raise ValueError("Piecewise takes pairs (value, condition)")

    def condition(self, node: ast.AST) -> Tree:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"the expression is nested deeper than {DEEPEST} levels")
        try:
            return self._condition(node)
        finally:
            self.depth -= 1

    def _condition(self, node: ast.AST) -> Tree:
        match node:
            case ast.Constant(value=True):
                return ["true"]
            case ast.BoolOp(op=op, values=values):
                kind = "and" if isinstance(op, ast.And) else "or"
                return [kind, *(self.condition(value) for value in values)]
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return ["not", self.condition(inner)]
            case ast.Compare(left=left, ops=ops, comparators=rights):
                return self._comparison(left, ops, rights)
        raise ValueError(f"{_words(node)} is no condition; write one such as x > 0")

    def _comparison(self, left: ast.expr, ops: list[Any], rights: list[ast.expr]) -> Tree:
        sides = [self.value(side) for side in (left, *rights)]
        parts = []
        for i, op in enumerate(ops):
            if type(op) not in SIGNS:
                raise ValueError("conditions compare by <, <=, > or >=")
            parts.append(["cmp", SIGNS[type(op)], sides[i], sides[i + 1]])
        return parts[0] if len(parts) == 1 else ["and", *parts]


def _words(node: ast.AST) -> str:
    """What a piece of grammar is called, for people."""
    names = {
        "Attribute": "a dot",
        "Subscript": "an index",
        "Lambda": "a lambda",
        "Call": "this call",
    }
    kind = type(node).__name__
    return names.get(kind, f"a {kind.lower()}")


def _plain(name: str) -> str:
    if not (name.isascii() and name.replace("_", "").isalnum()) or name.startswith("_"):
        raise ValueError(f"{name!r} is no variable; use letters and digits")
    return name


def _number(value: float) -> Tree:
    if not math.isfinite(value) or abs(value) > 1e30:
        raise ValueError(f"the number {value!r} is too large")
    exact = Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
    return ["num", exact.numerator, exact.denominator]


def _exponent(tree: Tree) -> Tree:
    """The exponent itself, unless it is a number too large to be meant."""
    if not variables_of(tree):
        size = abs(constant(tree))
        if not size <= LARGEST_EXPONENT:
            raise ValueError(f"an exponent is larger than {LARGEST_EXPONENT}")
    return tree


def constant(tree: Tree) -> float:
    """The number that a tree without variables stands for, NaN where there is none."""
    return float(to_torch(tree, {}, torch.zeros((), dtype=torch.float64)))


# --- to torch ------------------------------------------------------------------------------------


def to_torch(tree: Tree, values: dict[str, Tensor], like: Tensor) -> Tensor:
    """A tree's value for tensors of its variables, all of one shape.

    Args:
        tree: of an expression.
        values: a tensor for every variable.
        like: gives dtype, device and shape to the constants.
    """
    kind, *parts = tree
    if kind == "num":
        return torch.full_like(like, parts[0] / parts[1])
    if kind == "pi":
        return torch.full_like(like, math.pi)
    if kind == "sym":
        return values[parts[0]]
    if kind == "piece":
        return _pieces(parts, values, like)
    if kind == "pow":
        return _power(parts[0], parts[1], values, like)
    if kind == "call":
        args = [to_torch(arg, values, like) for arg in parts[1:]]
        if parts[0] in ONE_ARGUMENT:
            return ONE_ARGUMENT[parts[0]](args[0])
        return reduce(SEVERAL[parts[0]], args)
    terms = [to_torch(part, values, like) for part in parts]
    return reduce(torch.add if kind == "add" else torch.mul, terms)


def _power(base: Tree, exponent: Tree, values: dict[str, Tensor], like: Tensor) -> Tensor:
    """Powers by numbers keep their derivatives at negative bases and at 0."""
    below = to_torch(base, values, like)
    if exponent[0] == "num":
        return below ** (exponent[1] / exponent[2])
    return below ** to_torch(exponent, values, like)


def _pieces(pieces: Sequence[Any], values: dict[str, Tensor], like: Tensor) -> Tensor:
    out = torch.full_like(like, torch.nan)
    for value, condition in reversed(pieces):
        out = torch.where(holds(condition, values, like), to_torch(value, values, like), out)
    return out


def holds(condition: Tree, values: dict[str, Tensor], like: Tensor) -> Tensor:
    """Whether a condition holds, as a bool tensor of the variables' shape."""
    kind, *parts = condition
    if kind == "true":
        return torch.ones_like(like, dtype=torch.bool)
    if kind == "cmp":
        sign, left, right = parts
        a, b = to_torch(left, values, like), to_torch(right, values, like)
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign]
    inner = [holds(part, values, like) for part in parts]
    if kind == "not":
        return ~inner[0]
    return reduce(torch.logical_and if kind == "and" else torch.logical_or, inner)


class Expression(Surface):
    """A loss given as a formula; its verdict is unknown until `corridor.prove` finds it.

    Args:
        text: as for `parse`.
        variables: their order in the points; alphabetical by default.

    Raises:
        ValueError: the text cannot be read, or uses other variables than those named.

    Example:
        >>> loss = Expression("sqrt(x**2 + y**2)")
        >>> float(loss(torch.tensor([3.0, 4.0])))
        5.0
    """

    verdict = Verdict.UNDECIDED
    f_star = -float("inf")

    def __init__(self, text: str, variables: Sequence[str] | None = None) -> None:
        self.tree = parse(text)
        self.expression = text
        self.variables = named_variables(self.tree, variables)
        self.dimension = len(self.variables)

    def value(self, x: Tensor) -> Tensor:
        """The formula at points [..., n]."""
        values = dict(zip(self.variables, x.unbind(-1), strict=True))
        return to_torch(self.tree, values, x[..., 0])


def named_variables(tree: Tree, variables: Sequence[str] | None) -> list[str]:
    """The variables of an expression in order, those given or those that occur.

    Raises:
        ValueError: the expression uses others than those given, or there are none.
    """
    used = variables_of(tree)
    if variables is None:
        if not used:
            raise ValueError("the expression has no variables; name them")
        return used
    given = [_plain(name) for name in variables]
    strangers = [name for name in used if name not in given]
    if strangers or len(set(given)) != len(given) or not given:
        raise ValueError(f"variables must be those of the expression, {used}, got {given}")
    return given

"""Enclose the values of formulas at points in intervals, whose ends bound the rounding."""

from collections.abc import Callable
from math import prod
from typing import Any

import mpmath

iv: Any = mpmath.iv
HUGE = iv.mpf("1e1000")  # larger arguments of exp and sin take too much time


class UndefinedError(ArithmeticError):
    """Mark a point at which a part of a formula is not real, or not smooth."""


def _if(certain: Any, u: Any) -> Any:
    """Return u, or raise UndefinedError unless a comparison of intervals is certain."""
    if not certain:
        raise UndefinedError
    return u


def _off_zero(u: Any) -> Any:
    return _if(u > 0 or u < 0, u)


def _sign(u: Any) -> Any:
    return iv.mpf(1 if _off_zero(u) > 0 else -1)


def _largest(*args: Any) -> Any:
    found = [u for u in args if all(u is v or u > v for v in args)]
    return _if(found, found)[0]


ENCLOSED: dict[str, Callable[..., Any]] = {
    "Add": lambda *args: sum(args, iv.mpf(0)),
    "Mul": lambda *args: prod(args, start=iv.mpf(1)),
    "sqrt": lambda u: iv.sqrt(_if(u > 0, u)),
    "exp": lambda u: iv.exp(_if(abs(u) < HUGE, u)),
    "log": lambda u: iv.log(_if(u > 0, u)),
    "sin": lambda u: iv.sin(_if(abs(u) < HUGE, u)),
    "cos": lambda u: iv.cos(_if(abs(u) < HUGE, u)),
    "tan": lambda u: ENCLOSED["sin"](u) / _off_zero(iv.cos(u)),
    "asin": lambda u: iv.atan2(u, ENCLOSED["sqrt"](1 - u * u)),
    "acos": lambda u: iv.atan2(ENCLOSED["sqrt"](1 - u * u), u),
    "atan": lambda u: iv.atan2(u, iv.mpf(1)),
    "atan2": lambda y, x: iv.atan2(_if(x > 0 or y > 0 or y < 0, y), x),
    "sinh": lambda u: (ENCLOSED["exp"](u) - iv.exp(-u)) / 2,
    "cosh": lambda u: (ENCLOSED["exp"](u) + iv.exp(-u)) / 2,
    "tanh": lambda u: 1 - 2 / (ENCLOSED["exp"](2 * u) + 1),
    "Abs": lambda u: u * _sign(u),
    "sign": _sign,
    "Max": _largest,
    "Min": lambda *args: -_largest(*(-u for u in args)),
    **dict.fromkeys(("StrictGreaterThan", "GreaterThan"), lambda a, b: _sign(a - b) > 0),
    **dict.fromkeys(("StrictLessThan", "LessThan"), lambda a, b: _sign(a - b) < 0),
}


def enclose(tree: list[Any], at: dict[str, Any]) -> Any:
    """Return an interval that contains the value of a tree, or the truth of a condition."""
    head, *parts = tree
    match head:
        case "Symbol":
            return at[parts[0]]
        case "Rational":
            return iv.mpf(parts[0]) / parts[1]
        case "pi":
            return iv.mpf(iv.pi)
        case "true" | "false":
            return head == "true"
        case "And" | "Or":
            return (all if head == "And" else any)(enclose(part, at) for part in parts)
        case "Not":
            return not enclose(parts[0], at)
        case "Piecewise":
            holds = (value for value, condition in parts if enclose(condition, at))
            return enclose(next(holds, ["nowhere"]), at)
    args = [enclose(part, at) for part in parts]
    if head != "Pow":
        return _if(head in ENCLOSED, ENCLOSED)[head](*args)
    (base, exponent), written = args, parts[1]
    if written[0] != "Rational" or written[2] != 1:
        return iv.exp(exponent * ENCLOSED["log"](base))
    return (base if written[1] >= 0 else 1 / _off_zero(base)) ** abs(written[1])


def around(point: dict[str, Any], digits: int) -> dict[str, Any]:
    """Return the intervals around the coordinates of a rational point, and set the precision."""
    iv.dps = digits
    return {name: iv.mpf(int(value.p)) / int(value.q) for name, value in point.items()}


def enclose_all(trees: list[Any], at: dict[str, Any]) -> list[Any] | None:
    """Return the values of trees at a point, None where one of them is undefined."""
    try:
        return [enclose(tree, at) for tree in trees]
    except (ArithmeticError, ValueError, MemoryError):
        return None


def nonzero(values: list[Any]) -> bool:
    """Return True if one of the intervals does not contain 0."""
    return any(bool(value > 0 or value < 0) for value in values)

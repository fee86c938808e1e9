"""Read formulas as data: text becomes a tree of known nodes, and a tree becomes torch numbers.

Text is parsed by Python's grammar and never evaluated. A tree consists of lists that JSON can
carry. Each list starts with the name that SymPy gives to the node: ``["Rational", p, q]``,
``["Symbol", name]``, ``["pi"]``, ``["Add", ...]``, ``["Pow", base, exponent]``, ``["exp", u]``,
``["Piecewise", [value, condition], ...]``, ``["StrictLessThan", left, right]``, ``["true"]``.
"""

import ast
import math
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial, reduce
from typing import Any, TypeAlias

import torch
from torch import Tensor

Tree: TypeAlias = list[Any]

LONGEST = 2000
DEEPEST = 60
LARGEST_EXPONENT = 100
LARGEST_NUMBER = 1e30
SMALLEST_POWER = 1000
MINUS_ONE: Tree = ["Rational", -1, 1]

SAME_NAME = "sqrt exp log sin cos tan asin acos atan sinh cosh tanh sign atan2"  # as in torch
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in SAME_NAME.split()},
    **{"Abs": torch.abs, "Max": torch.maximum, "Min": torch.minimum},
}
OTHER_SPELLINGS = {"ln": "log", "abs": "Abs", "max": "Max", "min": "Min"}
COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[..., Tensor]]] = {
    ast.Lt: ("StrictLessThan", torch.lt),
    ast.LtE: ("LessThan", torch.le),
    ast.Gt: ("StrictGreaterThan", torch.gt),
    ast.GtE: ("GreaterThan", torch.ge),
}
OPERATORS: dict[str, Callable[..., Tensor]] = {
    **{"Add": torch.add, "Mul": torch.mul, "Pow": torch.pow},
    **{"And": torch.logical_and, "Or": torch.logical_or, "Not": torch.logical_not},
    **dict(COMPARISONS.values()),
}


def parse(text: str) -> Tree:
    """Return the tree of a formula of at most 2000 characters, with decimals as exact fractions.

    The formula may contain numbers, variables, ``+ - * / **``, ``a if condition else b``,
    ``Piecewise((value, condition), ..., (value, True))`` and the functions sqrt, exp, log (ln),
    sin, cos, tan, asin, acos, atan, atan2, sinh, cosh, tanh, abs, sign, max and min.

    Raises:
        ValueError: the text is not such a formula.

    Example:
        >>> parse("2*x + 0.5")
        ['Add', ['Mul', ['Rational', 2, 1], ['Symbol', 'x']], ['Rational', 1, 2]]
    """
    return _value(_grammar(text), DEEPEST)


def parse_condition(text: str) -> Tree:
    """Return the tree of a condition such as ``x > 0 and not x**2 + y**2 < 1``."""
    return _condition(_grammar(text), DEEPEST)


def variables_of(tree: Tree) -> list[str]:
    """Return the variable names of a tree in alphabetical order, with x2 before x10."""
    nodes = [tree]
    for node in nodes:  # which grows
        nodes += [part for part in node if isinstance(part, list)]
    found = {node[1] for node in nodes if node[0] == "Symbol"}
    return sorted(found, key=lambda name: (name.rstrip("0123456789"), len(name), name))


def named_variables(
    tree: Tree, variables: Sequence[str] | None, constants: Sequence[str] = ()
) -> list[str]:
    """Return the variables in the order of coordinates: those given, or those that occur."""
    used = [name for name in variables_of(tree) if name not in constants]
    given = [_variable(name) for name in (used if variables is None else variables)]
    names = [*given, *map(_variable, constants)]
    if not given and variables is None:
        raise ValueError("expression must contain a variable, got none; pass variables=")
    if not given or not set(used) <= set(given) or len(set(names)) != len(names):
        raise ValueError(f"variables must be all variables of the expression, {used}, got {given}")
    return given


def evaluate(tree: Tree, values: dict[str, Tensor], like: Tensor) -> Tensor:
    """Return the value of an expression, or a bool tensor for a condition, shaped like `like`."""
    head, *parts = tree
    if head == "Symbol":
        return values[parts[0]]
    if head == "Rational":
        return torch.full_like(like, parts[0] / parts[1])
    if head == "pi":
        return torch.full_like(like, math.pi)
    if head == "true":
        return torch.ones_like(like, dtype=torch.bool)
    if head == "Piecewise":  # the first piece whose condition holds, NaN where none holds
        out = torch.full_like(like, torch.nan)
        for value, condition in reversed(parts):
            holds = evaluate(condition, values, like)
            # Elsewhere a piece may be NaN. This selection keeps its gradient from the variables.
            inside = {name: torch.where(holds, v, v.detach()) for name, v in values.items()}
            out = torch.where(holds, evaluate(value, inside, like), out)
        return out
    args = [evaluate(part, values, like) for part in parts]
    if head == "Pow" and parts[1][0] == "Rational":
        # A number as exponent keeps the derivatives finite at negative bases and at 0.
        return args[0] ** (parts[1][1] / parts[1][2])
    function = FUNCTIONS.get(head) or OPERATORS[head]
    return reduce(function, args) if len(args) > 2 else function(*args)


def _grammar(text: str) -> ast.expr:
    if not isinstance(text, str):
        raise ValueError(f"expression must be text, got {type(text).__name__}")
    if len(text) > LONGEST:
        raise ValueError(f"expression must have at most {LONGEST} characters, got {len(text)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns about spellings that are refused below
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise ValueError(f"the expression cannot be read: {reason}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            # The digits as written: a float would drop those after the seventeenth.
            node.kind = ast.get_source_segment(text.strip(), node)
    return tree


def _value(node: ast.expr, room: int) -> Tree:
    """Return the tree of a value, with at most `room` levels of nesting."""
    inside = partial(_value, room=_less(room))
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _number(node.kind or str(number))
        case ast.Name(id="pi"):
            return ["pi"]
        case ast.Name(id=name):
            return ["Symbol", _variable(name)]
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return inside(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return ["Mul", MINUS_ONE, inside(operand)]
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            return ["Add", *_chain(node, ast.Add, ast.Sub, room - 1)]
        case ast.BinOp(op=ast.Mult() | ast.Div()):
            return ["Mul", *_chain(node, ast.Mult, ast.Div, room - 1)]
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return ["Pow", inside(left), _exponent(inside(right))]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _call(name, args, room - 1)
        case ast.IfExp(test=test, body=body, orelse=other):
            first = [inside(body), _condition(test, room - 1)]
            return ["Piecewise", first, [inside(other), ["true"]]]
    raise ValueError(f"expression must be a formula, got {_words(node)}")


def _chain(node: ast.expr, direct: type, inverse: type, room: int) -> list[Tree]:
    """Return the terms of a sum, or the factors of a product, as one level of nesting."""
    parts: list[Tree] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, direct | inverse):
        right = _value(node.right, room)
        if isinstance(node.op, inverse):
            right = ["Mul", MINUS_ONE, right] if inverse is ast.Sub else ["Pow", right, MINUS_ONE]
        parts.append(right)
        node = node.left
    return [_value(node, room), *reversed(parts)]


def _call(name: str, args: list[ast.expr], room: int) -> Tree:
    head = OTHER_SPELLINGS.get(name, name)
    if head == "Piecewise":
        if not all(isinstance(arg, ast.Tuple) and len(arg.elts) == 2 for arg in args):
            raise ValueError("Piecewise must contain pairs (value, condition); add the conditions")
        pairs = [arg.elts for arg in args if isinstance(arg, ast.Tuple)]
        return [head, *([_value(v, room), _condition(c, room)] for v, c in pairs)]
    if head not in FUNCTIONS:
        known = ", ".join([*map(str.lower, FUNCTIONS), "Piecewise"])
        raise ValueError(f"unknown function {name!r}; use one of {known}")
    least = 2 if head in ("atan2", "Max", "Min") else 1
    if len(args) < least or (len(args) > least and head not in ("Max", "Min")):
        raise ValueError(f"{name} must have {least} argument(s), got {len(args)}")
    return [head, *(_value(arg, room) for arg in args)]


def _condition(node: ast.expr, room: int) -> Tree:
    """Return the tree of a condition, with at most `room` levels of nesting."""
    inside = partial(_condition, room=_less(room))
    match node:
        case ast.Constant(value=True):
            return ["true"]
        case ast.BoolOp(op=op, values=values):
            return ["And" if isinstance(op, ast.And) else "Or", *map(inside, values)]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ["Not", inside(operand)]
        case ast.Compare(left=left, ops=ops, comparators=rights):
            if not all(type(op) in COMPARISONS for op in ops):
                raise ValueError("condition must compare by <, <=, > or >=; change the operator")
            values = [_value(side, room - 1) for side in (left, *rights)]
            parts = [[COMPARISONS[type(op)][0], *values[i : i + 2]] for i, op in enumerate(ops)]
            return parts[0] if len(parts) == 1 else ["And", *parts]
    raise ValueError(f"condition must be a comparison such as x > 0, got {_words(node)}")


def _less(room: int) -> int:
    if room < 1:
        raise ValueError(f"expression must have at most {DEEPEST} levels of nesting; simplify it")
    return room - 1


def _words(node: ast.expr) -> str:
    """Return the name of a piece of grammar for an error message."""
    if isinstance(node, ast.BinOp):
        hint = "; write ** for powers" if isinstance(node.op, ast.BitXor) else ""
        return f"the operator {type(node.op).__name__}{hint}"
    kind = type(node).__name__
    return {"Attribute": "a dot", "Subscript": "an index"}.get(kind, f"a {kind.lower()}")


def _variable(name: str) -> str:
    if not (name.isascii() and name.replace("_", "").isalnum()) or name.startswith("_"):
        raise ValueError(f"variables must consist of letters and digits, got {name!r}")
    return name


def _number(text: str) -> Tree:
    digits, _, power = text.replace("_", "").lower().partition("e")
    if power and abs(int(power)) > SMALLEST_POWER:
        raise ValueError(f"numbers must have powers of ten below {SMALLEST_POWER}, got {text}")
    exact = Fraction(digits) * Fraction(10) ** int(power or 0)
    if exact > LARGEST_NUMBER:
        raise ValueError(f"numbers must be at most {LARGEST_NUMBER:g}, got {text}")
    return ["Rational", *exact.as_integer_ratio()]


def _exponent(tree: Tree) -> Tree:
    """Return the exponent, as one fraction where it is a constant fraction."""
    if variables_of(tree):
        return tree
    size = abs(float(evaluate(tree, {}, torch.zeros((), dtype=torch.float64))))
    if not size <= LARGEST_EXPONENT:  # algebra would not end
        raise ValueError(f"exponents must be at most {LARGEST_EXPONENT}, got {size:g}")
    exact = _fraction(tree)
    return tree if exact is None else ["Rational", *exact.as_integer_ratio()]


def _fraction(tree: Tree) -> Fraction | None:
    """Return the value of a constant tree of sums, products and fractions, None for others."""
    head, *parts = tree
    if head == "Rational":
        return Fraction(*parts)
    values = [_fraction(part) for part in parts] if head in ("Add", "Mul", "Pow") else [None]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if head == "Pow":
        base, power = known
        small = max(base.numerator.bit_length(), base.denominator.bit_length()) < 100
        return base ** int(power) if power.denominator == 1 and base and small else None
    return sum(known, Fraction(0)) if head == "Add" else math.prod(known, start=Fraction(1))

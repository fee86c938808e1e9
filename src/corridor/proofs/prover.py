"""Find the verdict on an expression by SymPy, as a program that its caller can stop.

The program reads a request as JSON from stdin. The request holds trees of
`corridor.proofs.expression` and never code. The program writes two JSON lines to stdout: first the
numeric evidence, then the verdict. It imports nothing from corridor, because torch would delay its
start by seconds.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from itertools import combinations
from typing import Any

import sympy as sp

MEMORY = 3 << 30  # bytes that a proof may take
MOST_PIECES = 64
POINTS = 24  # points per piece for the numeric evidence
DRAWS = 400
DIGITS = 40
KINKED = (sp.Abs, sp.sign, sp.Max, sp.Min, sp.Piecewise)


def build(tree: list[Any], symbols: dict[str, Any]) -> Any:
    """Return the SymPy expression or condition of a tree."""
    head, *parts = tree
    if head == "Symbol":
        return symbols[parts[0]]
    if head == "Rational":
        return sp.Rational(*parts)
    if head in ("pi", "true"):
        return getattr(sp, head)
    if head == "Piecewise":
        return sp.Piecewise(*([build(part, symbols) for part in pair] for pair in parts))
    return getattr(sp, head)(*(build(part, symbols) for part in parts))


def revive(trees: list[list[Any]], names: list[str]) -> tuple[Any, ...]:
    """Return SymPy expressions in real variables of these names."""
    symbols = {name: sp.Symbol(name, real=True) for name in names}
    return tuple(build(tree, symbols) for tree in trees)


def to_tree(expr: Any) -> list[Any]:
    """Return the tree of a SymPy expression.

    Raises:
        ValueError: the expression contains a node that trees do not have.
    """
    if expr.is_Rational:
        return ["Rational", int(expr.p), int(expr.q)]
    if expr.is_Symbol:
        return ["Symbol", expr.name]
    if expr is sp.pi:
        return ["pi"]
    if expr is sp.E:
        return ["exp", ["Rational", 1, 1]]
    head = type(expr).__name__
    if not hasattr(sp, head):
        raise ValueError(f"no tree for {head}")
    return [head, *map(to_tree, expr.args)]


def pieces(expr: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return the smooth pieces of an expression, each with the conditions under which it holds."""
    inner = [a for a in _atoms(expr, *KINKED) if not any(arg.atoms(*KINKED) for arg in a.args)]
    if not inner:
        return [(expr, where)]
    out: list[tuple[Any, tuple[Any, ...]]] = []
    for value, condition in _choices(inner[0]):
        rest = tuple(c.xreplace({inner[0]: value}) for c in where)
        out += pieces(expr.xreplace({inner[0]: value}), (*rest, condition))
        if len(out) > MOST_PIECES:
            raise ValueError(f"expression must have at most {MOST_PIECES} pieces; simplify it")
    return out


def _atoms(expr: Any, *kinds: Any) -> list[Any]:
    return sorted(expr.atoms(*kinds), key=sp.default_sort_key)


def _choices(atom: Any) -> list[tuple[Any, Any]]:
    """Return what an atom equals on each side of its kinks, with the condition for it."""
    if isinstance(atom, sp.Piecewise):
        pairs: list[Any] = [pair.args for pair in atom.args]
        before = [sp.Not(condition) for _, condition in pairs]
        return [(v, sp.And(*before[:i], c)) for i, (v, c) in enumerate(pairs)]
    if isinstance(atom, sp.Max | sp.Min):
        ahead = sp.Gt if isinstance(atom, sp.Max) else sp.Lt
        return [(a, sp.And(*(ahead(a, b) for b in atom.args if b is not a))) for a in atom.args]
    (u,) = atom.args
    low, high = (-u, u) if isinstance(atom, sp.Abs) else (sp.Integer(-1), sp.Integer(1))
    return [(high, sp.Gt(u, 0)), (low, sp.Lt(u, 0))]


def excluded(expr: Any) -> list[str]:
    """Return, as text, where pieces meet and where the expression is not twice differentiable."""
    out = []
    for atom in _atoms(expr, sp.Abs, sp.sign, sp.Max, sp.Min):
        out += [f"{a} = {b}" for a, b in combinations(atom.args, 2)] or [_zeros(atom.args[0], "=")]
    for atom in _atoms(expr, sp.Piecewise):
        for _, condition in atom.args:
            out += [f"{r.lhs} = {r.rhs}" for r in _atoms(condition, sp.core.relational.Relational)]
    for base, exponent in (atom.args for atom in _atoms(expr, sp.Pow)):
        if not exponent.is_integer and not base.is_number:
            out.append(_zeros(base, "<="))
        elif exponent.is_integer and exponent.is_negative:
            out.append(_zeros(base, "="))
    out += [_zeros(atom.args[0], "<=") for atom in _atoms(expr, sp.log)]
    out += [f"{atom.args[0]} = 0 and {atom.args[1]} <= 0" for atom in _atoms(expr, sp.atan2)]
    out += [f"cos({atom.args[0]}) = 0" for atom in _atoms(expr, sp.tan)]
    out += [f"abs({atom.args[0]}) >= 1" for atom in _atoms(expr, sp.asin, sp.acos)]
    return list(dict.fromkeys(filter(None, out)))


def _zeros(u: Any, sign: str) -> str:
    """Return ``u = 0`` or ``u <= 0`` in its shortest form, or nothing where it cannot hold."""
    if u.is_positive or u.is_number:
        return ""
    if u.is_nonnegative:
        sign = "="
        powers = [t.as_base_exp() for t in (u.args if u.is_Add else (u,))]
        if all(base.is_Symbol and exponent != 1 for base, exponent in powers):
            return " = ".join([*(str(base) for base, _ in powers), "0"])
    return f"{u} {sign} 0"


def sample(symbols: list[Any], seed: int) -> list[dict[Any, Any]]:
    """Return random rational points of several sizes."""
    draw = random.Random(seed)
    points = []
    for i in range(DRAWS):
        size = (2.0, 0.3, 8.0)[i % 3]
        values = [sp.Rational(round(draw.uniform(-size, size) * 64), 64) for _ in symbols]
        pairs = zip(symbols, values, strict=True)
        # A positive variable must not be 0 either.
        points.append({s: abs(v) + sp.Rational(1, 64) if s.is_positive else v for s, v in pairs})
    return points


def true_at(condition: Any, point: dict[Any, Any]) -> bool:
    """Return True if a condition holds at a point."""
    found = condition.subs(point)
    return bool(found == sp.true) or (found.is_Relational and bool(found.evalf() == sp.true))


def values_at(expressions: list[Any], point: dict[Any, Any]) -> list[Any] | None:
    """Return the values at a point, or None unless all are real and finite."""
    values = []
    for expr in expressions:
        value = expr.evalf(DIGITS, subs=point if expr.free_symbols else None)
        if not (value.is_number and value.is_real and value.is_finite):
            return None
        values.append(value)
    return values


class Piece:
    """Collect numeric and algebraic results on one smooth piece of the expression."""

    def __init__(self, expr: Any, where: tuple[Any, ...], symbols: list[Any]) -> None:
        self.where, self.symbols = sp.And(*where), symbols
        g = [sp.diff(expr, s) for s in symbols]
        self.square = sp.Add(*(gi**2 for gi in g))
        self.Hg = [sp.diff(self.square, s) / 2 for s in symbols]
        self.looked_at = [expr, *g, *self.Hg]
        self.points = 0
        self.witness: dict[Any, Any] | None = None
        self.largest = 0.0
        self.bent = 0.0

    def look(self, points: list[dict[Any, Any]]) -> None:
        """Evaluate Hg at points of the piece, and keep the first point where Hg is not 0."""
        n = len(self.symbols)
        for point in points:
            if self.points >= POINTS:
                break
            values = values_at(self.looked_at, point) if true_at(self.where, point) else None
            if values is None:
                continue
            self.points += 1
            g, Hg = values[1 : n + 1], values[n + 1 :]
            size = max(map(abs, Hg))
            scale = max(*map(abs, g), size, 1e-30)
            if size > 1e-20 * scale:  # 40 digits, of which cancellation may cost half
                self.witness = self.witness or point
            cross = [abs(Hg[i] * g[j] - Hg[j] * g[i]) for i, j in combinations(range(n), 2)]
            self.largest = max(self.largest, float(size))
            self.bent = max([self.bent, *(float(c / scale**2) for c in cross)])

    def solve(self) -> dict[str, Any]:
        """Bring ``||g||^2`` to a constant by algebra, or at least simplify its gradient."""
        for form in (sp.simplify, lambda e: sp.simplify(sp.trigsimp(sp.expand(e))), sp.factor):
            square = form(self.square)
            if not square.free_symbols:
                return self.answer([sp.Integer(0)] * len(self.symbols), to_tree(sp.sqrt(square)))
        return self.answer([sp.simplify(sp.diff(square, s) / 2) for s in self.symbols])

    def refuted(self) -> dict[str, Any]:
        """Return Hg on a piece where it is not 0, factored where that is quick."""
        return self.answer([sp.factor(h) if h.count_ops() < 200 else h for h in self.Hg])

    def answer(self, Hg: list[Any], speed: list[Any] | None = None) -> dict[str, Any]:
        """Return the piece as JSON values."""
        try:
            trees = [to_tree(h) for h in Hg]
        except ValueError:
            trees = None
        zero = all(h == 0 for h in Hg)
        return {"where": str(self.where), "hg": trees, "speed": speed, "zero": zero}


def prove(request: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return the verdict as JSON values.

    Args:
        request: the expression's tree, the variables, those that are positive, the conditions of
            the domain and the seed of the random points.
        report: called with the numeric evidence before the algebra begins.

    Raises:
        ValueError: no point has a real value and gradient, or there are too many pieces.
    """
    symbols = {
        name: sp.Symbol(name, real=True, positive=True if name in request["positive"] else None)
        for name in request["variables"]
    }
    order = list(symbols.values())
    expr = build(request["tree"], symbols)
    domain = sp.And(*(build(condition, symbols) for condition in request["domain"]))
    points = [p for p in sample(order, request["seed"]) if true_at(domain, p)]
    if not points:
        raise ValueError(f"no point of the domain was found among {DRAWS} random points")
    found = [Piece(e, (*where, domain), order) for e, where in pieces(expr)]
    for piece in found:
        piece.look(points)
    evidence = {
        "points": sum(p.points for p in found),
        "largest": max(p.largest for p in found),
        "excluded": excluded(expr),
    }
    if not evidence["points"]:
        raise ValueError(
            f"the expression has no real value with a gradient at {DRAWS} random points"
        )
    report(evidence)
    against = next((p for p in found if p.witness), None)
    return {**evidence, **(_proved(found) if against is None else _refuted(against, found))}


def _refuted(piece: Piece, found: list[Piece]) -> dict[str, Any]:
    point = piece.witness or {}
    weak = all(p.bent < 1e-20 for p in found)
    return {
        "verdict": "weak corridor" if weak else "not a corridor",
        "witness": {str(k): str(v) for k, v in point.items()},
        "hg_at_witness": [float(v) for v in values_at(piece.Hg, point) or []],
        "pieces": [piece.refuted()],
    }


def _proved(found: list[Piece]) -> dict[str, Any]:
    answers = [piece.solve() for piece in found]
    verdict = "corridor" if all(a["zero"] for a in answers) else "undecided"
    # A piece that no point met may be empty; it must be proved, but it is not shown.
    met = [answer for answer, piece in zip(answers, found, strict=True) if piece.points]
    return {"verdict": verdict, "pieces": met}


def main() -> None:
    """Answer one request."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # this system has no such limit; the caller's time limit still holds
    request = json.loads(sys.stdin.read())

    def report(message: dict[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    try:
        report(prove(request, report))
    except (ValueError, RecursionError, MemoryError, ArithmeticError, TypeError) as error:
        report({"failed": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()

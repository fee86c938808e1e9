"""The symbolic verdict, by SymPy: run as a program of its own so that it can be stopped.

It reads a request as JSON from stdin - trees of `corridor.proofs.expression`, never code - and
writes JSON lines to stdout: the numeric evidence first, then the proof. It imports nothing of
corridor, so that it starts quickly.
"""

from __future__ import annotations

import json
import random
import sys
from itertools import combinations
from typing import Any

MEMORY = 3 << 30  # bytes that a proof may take
MOST_PIECES = 64
POINTS = 24  # for the numeric evidence, a piece


def to_sympy(tree: list[Any], symbols: dict[str, Any]) -> Any:
    """The SymPy expression or condition of a tree."""
    import sympy as sp

    kind, *parts = tree
    if kind == "num":
        return sp.Rational(parts[0], parts[1])
    if kind == "pi":
        return sp.pi
    if kind == "sym":
        return symbols[parts[0]]
    if kind == "true":
        return sp.true
    if kind == "piece":
        pairs = [(to_sympy(v, symbols), to_sympy(c, symbols)) for v, c in parts]
        return sp.Piecewise(*pairs)
    if kind == "cmp":
        left, right = to_sympy(parts[1], symbols), to_sympy(parts[2], symbols)
        return {"<": sp.Lt, "<=": sp.Le, ">": sp.Gt, ">=": sp.Ge}[parts[0]](left, right)
    names = {"abs": sp.Abs, "max": sp.Max, "min": sp.Min}
    if kind == "call":
        function = names.get(parts[0]) or getattr(sp, parts[0])
        return function(*(to_sympy(arg, symbols) for arg in parts[1:]))
    inner = [to_sympy(part, symbols) for part in parts]
    joined = {
        "add": sp.Add,
        "mul": sp.Mul,
        "pow": sp.Pow,
        "and": sp.And,
        "or": sp.Or,
        "not": sp.Not,
    }
    return joined[kind](*inner)


def revive(trees: list[list[Any]], names: list[str]) -> tuple[Any, ...]:
    """SymPy expressions in real variables of these names."""
    import sympy as sp

    symbols = {name: sp.Symbol(name, real=True) for name in names}
    return tuple(to_sympy(tree, symbols) for tree in trees)


def to_tree(expr: Any) -> list[Any]:
    """The tree of a SymPy expression made of the nodes that trees have.

    Raises:
        ValueError: it has others.
    """
    import sympy as sp

    if expr.is_Rational:
        return ["num", int(expr.p), int(expr.q)]
    if expr.is_Symbol:
        return ["sym", expr.name]
    if expr is sp.pi:
        return ["pi"]
    if expr is sp.E:
        return ["call", "exp", ["num", 1, 1]]
    for cls, kind in ((sp.Add, "add"), (sp.Mul, "mul"), (sp.Pow, "pow")):
        if isinstance(expr, cls):
            return [kind, *map(to_tree, expr.args)]
    name = type(expr).__name__.lower()
    if name in ("exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh",
                "tanh", "abs", "sign", "max", "min"):  # fmt: skip
        return ["call", name, *map(to_tree, expr.args)]
    raise ValueError(f"no tree for {name}")


# --- pieces --------------------------------------------------------------------------------------


def pieces(expr: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, tuple[Any, ...]]]:
    """Smooth pieces of an expression with abs, sign, max, min, Piecewise, and where they hold."""
    import sympy as sp

    kinked = (sp.Abs, sp.sign, sp.Max, sp.Min, sp.Piecewise)
    found = sorted(expr.atoms(*kinked), key=sp.default_sort_key)
    inner = [atom for atom in found if not any(arg.atoms(*kinked) for arg in atom.args)]
    if not inner:
        return [(expr, where)]
    out: list[tuple[Any, tuple[Any, ...]]] = []
    for value, condition in _choices(inner[0]):
        rest = tuple(c.xreplace({inner[0]: value}) for c in where)
        out += pieces(expr.xreplace({inner[0]: value}), (*rest, condition))
        if len(out) > MOST_PIECES:
            raise ValueError(f"the expression has more than {MOST_PIECES} pieces")
    return out


def _choices(atom: Any) -> list[tuple[Any, Any]]:
    import sympy as sp

    if isinstance(atom, sp.Piecewise):
        out = []
        before: Any = sp.true
        pairs: list[Any] = [pair.args for pair in atom.args]
        for value, condition in pairs:
            out.append((value, sp.And(before, condition)))
            before = sp.And(before, sp.Not(condition))
        return out
    if isinstance(atom, sp.Max | sp.Min):
        above = sp.Gt if isinstance(atom, sp.Max) else sp.Lt
        rows = [(a, [b for b in atom.args if b is not a]) for a in atom.args]
        return [(a, sp.And(*(above(a, b) for b in others))) for a, others in rows]
    u = atom.args[0]
    low, high = (-u, u) if isinstance(atom, sp.Abs) else (sp.Integer(-1), sp.Integer(1))
    return [(high, sp.Gt(u, 0)), (low, sp.Lt(u, 0))]


def seams(expr: Any) -> list[str]:
    """Where the pieces meet, as text."""
    import sympy as sp

    out = []
    for atom in sorted(expr.atoms(sp.Abs, sp.sign, sp.Max, sp.Min), key=sp.default_sort_key):
        if isinstance(atom, sp.Abs | sp.sign):
            out.append(_vanishing(atom.args[0], "="))
        else:
            out += [f"{a} = {b}" for a, b in combinations(atom.args, 2)]
    for atom in expr.atoms(sp.Piecewise):
        for condition in [pair.args[1] for pair in atom.args]:
            out += [f"{r.lhs} = {r.rhs}" for r in condition.atoms(sp.core.relational.Relational)]
    return [text for text in out if text]


def singular(expr: Any) -> list[str]:
    """Where roots, quotients and logarithms are not twice differentiable, as text."""
    import sympy as sp

    def atoms(*kinds: Any) -> list[Any]:
        return sorted(expr.atoms(*kinds), key=sp.default_sort_key)

    out = []
    for atom in atoms(sp.Pow):
        base, exponent = atom.args
        if exponent.is_integer:
            out.append(_vanishing(base, "=") if exponent.is_negative else "")
        elif not base.is_number:
            out.append(_vanishing(base, "<="))
    out += [_vanishing(atom.args[0], "<=") for atom in atoms(sp.log)]
    out += [f"{atom.args[0]} = 0 and {atom.args[1]} <= 0" for atom in atoms(sp.atan2)]
    out += [f"cos({atom.args[0]}) = 0" for atom in atoms(sp.tan)]
    out += [f"abs({atom.args[0]}) >= 1" for atom in atoms(sp.asin, sp.acos)]
    return [text for text in out if text]


def _vanishing(u: Any, sign: str) -> str:
    """``u = 0`` or ``u <= 0`` in its shortest form, empty where it cannot be."""
    if u.is_positive or u.is_number:
        return ""
    if u.is_nonnegative:
        sign = "="
        terms = u.args if u.is_Add else (u,)
        symbols = [term.as_powers_dict() for term in terms]
        names = [str(next(iter(d))) for d in symbols if len(d) == 1]
        if len(names) == len(terms) and all(t.is_Pow and t.base.is_Symbol for t in terms):
            return " = ".join([*names, "0"])
    return f"{u} {sign} 0"


# --- numbers -------------------------------------------------------------------------------------


def sample(symbols: list[Any], seed: int, count: int) -> list[dict[Any, Any]]:
    """Random rational points of several sizes."""
    import sympy as sp

    draw = random.Random(seed)
    points = []
    for i in range(count):
        size = (2.0, 0.3, 8.0)[i % 3]
        values = [sp.Rational(round(draw.uniform(-size, size) * 64), 64) for _ in symbols]
        pairs = zip(symbols, values, strict=True)
        points.append({s: abs(v) + sp.Rational(1, 64) if s.is_positive else v for s, v in pairs})
    return points


def true_at(condition: Any, point: dict[Any, Any]) -> bool:
    """Whether a condition holds at a point."""
    import sympy as sp

    found = condition.subs(point)
    return bool(found == sp.true) or (found.is_Relational and bool(found.evalf() == sp.true))


def at(expressions: list[Any], point: dict[Any, Any]) -> list[Any] | None:
    """Real finite values at a point to 40 digits, None where there are none."""
    out = []
    for expr in expressions:
        value = expr.evalf(40, subs=point) if expr.free_symbols else expr.evalf(40)
        if not (value.is_number and value.is_real and value.is_finite):
            return None
        out.append(value)
    return out


# --- the proof -----------------------------------------------------------------------------------


class Piece:
    """One smooth piece: what numbers say of it, and what algebra."""

    def __init__(self, expr: Any, where: tuple[Any, ...], symbols: list[Any]) -> None:
        import sympy as sp

        self.expr, self.where, self.symbols = expr, sp.And(*where), symbols
        self.g = [sp.diff(expr, s) for s in symbols]
        self.square = sp.Add(*(gi**2 for gi in self.g))
        self.raw = [sp.diff(self.square, s) / 2 for s in symbols]
        self.points: list[dict[Any, Any]] = []
        self.hg: list[Any] | None = None
        self.speed: Any = None
        self.witness: dict[Any, Any] | None = None
        self.largest = 0.0
        self.bent = 0.0

    def look(self, points: list[dict[Any, Any]]) -> None:
        """Evaluate Hg at points of the piece, and keep the first where it is not 0."""
        for point in points:
            if len(self.points) >= POINTS:
                break
            if not true_at(self.where, point):
                continue
            values = at([self.expr, *self.g, *self.raw], point)
            if values is None:
                continue
            self.points.append(point)
            n = len(self.symbols)
            g, Hg = values[1 : n + 1], values[n + 1 :]
            size = max(map(abs, Hg))
            scale = max(*map(abs, g), size, 1e-30)
            if size > 1e-20 * scale:
                self.witness = self.witness or point
            self.largest = max(self.largest, float(size))
            cross = [abs(Hg[i] * g[j] - Hg[j] * g[i]) for i, j in combinations(range(len(g)), 2)]
            self.bent = max([self.bent, *(float(c / scale**2) for c in cross)])

    def solve(self) -> None:
        """Try to bring ``||g||^2`` to a constant, and if it is none, its gradient to 0."""
        import sympy as sp

        for form in (sp.simplify, lambda e: sp.simplify(sp.trigsimp(sp.expand(e))), sp.factor):
            square = form(self.square)
            if not square.free_symbols:
                self.speed, self.hg = sp.sqrt(square), [sp.Integer(0)] * len(self.symbols)
                return
        self.hg = [sp.simplify(sp.diff(square, s) / 2) for s in self.symbols]

    @property
    def vanishes(self) -> bool:
        """Whether algebra found ``Hg = 0``."""
        return self.hg is not None and all(h == 0 for h in self.hg)


def prove(request: dict[str, Any], tell: Any) -> dict[str, Any]:
    """The proof as JSON values; `tell` is handed the numeric evidence as soon as it is there."""
    import sympy as sp

    symbols = {
        name: sp.Symbol(name, real=True, positive=True if name in request["positive"] else None)
        for name in request["variables"]
    }
    order = list(symbols.values())
    expr = to_sympy(request["tree"], symbols)
    domain = sp.And(*(to_sympy(c, symbols) for c in request["domain"]))
    points = [p for p in sample(order, request["seed"], 400) if true_at(domain, p)]
    if not points:
        raise ValueError("no point of the domain was found among 400 random ones")
    found = [Piece(e, (*where, domain), order) for e, where in pieces(expr)]
    for piece in found:
        piece.look(points)
    excluded = list(dict.fromkeys([*seams(expr), *singular(expr)]))
    evidence = {
        "points": sum(len(p.points) for p in found),
        "largest": max(p.largest for p in found),
        "excluded": excluded,
    }
    if not evidence["points"]:
        raise ValueError("the expression has no real value with a gradient at 400 random points")
    tell(evidence)
    against = next((p for p in found if p.witness), None)
    if against is not None:
        return {**evidence, **_refuted(against, found)}
    for piece in found:
        piece.solve()
    return {**evidence, **_proved(found)}


def _refuted(piece: Piece, found: list[Piece]) -> dict[str, Any]:
    import sympy as sp

    assert piece.witness is not None
    values = at(piece.raw, piece.witness) or []
    weak = all(p.bent < 1e-20 for p in found)
    hg: list[Any] = [sp.factor(h) if h.count_ops() < 200 else h for h in piece.raw]
    return {
        "verdict": "weak corridor" if weak else "not a corridor",
        "witness": {str(k): str(v) for k, v in piece.witness.items()},
        "hg_at_witness": [float(v) for v in values],
        "pieces": [_told(piece, hg)],
    }


def _proved(found: list[Piece]) -> dict[str, Any]:
    met = [p for p in found if p.points]
    doubtful = [p for p in found if not p.vanishes]
    verdict = "undecided" if doubtful else "corridor"
    return {"verdict": verdict, "pieces": [_told(p, p.hg) for p in met]}


def _told(piece: Piece, hg: list[Any] | None) -> dict[str, Any]:
    speed = None if piece.speed is None else to_tree(piece.speed)
    try:
        trees = None if hg is None else [to_tree(h) for h in hg]
    except ValueError:
        trees = None
    return {
        "where": str(piece.where),
        "hg": trees,
        "hg_text": None if hg is None else [str(h) for h in hg],
        "speed": speed,
    }


def main() -> None:
    """Answer one request."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # no such limits here; the time limit still holds
    request = json.loads(sys.stdin.read())

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    try:
        tell(prove(request, tell))
    except (ValueError, RecursionError, MemoryError, ArithmeticError, TypeError) as error:
        tell({"failed": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()

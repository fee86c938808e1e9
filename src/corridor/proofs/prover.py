"""Find the verdict on an expression by SymPy, as a program that its caller can stop.

It reads a request as JSON from stdin, with trees of `corridor.proofs.expression` and never code. It
writes two JSON lines to stdout: first the numeric evidence, then the verdict. It imports nothing
that imports torch, which would delay its start by seconds.
"""

import json
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import combinations
from typing import Any

import sympy as sp
from mpmath import mp

from corridor.proofs.intervals import around, enclose_all, nonzero

MEMORY = 3 << 30  # bytes that a proof may take
MOST_PIECES = 64
POINTS = 24  # points per piece for the numeric evidence
SIZES = (2.0, 0.3, 8.0) * 134 + (100.0, 1e4) * 50  # of random points; few formulas need far ones
PRECISIONS = (50, 250, 1200)  # digits; more are needed where large terms cancel
KINKED = (sp.Abs, sp.sign, sp.Max, sp.Min, sp.Piecewise)
# Parts of a formula that have edges, and the order in which edges are listed.
RANKS = {"Abs": 0, "sign": 0, "Max": 0, "Min": 0, "Pow": 2, "sqrt": 2, "log": 3, "atan2": 4}
RANKS |= {"tan": 5, "asin": 6, "acos": 6}
RANKS |= dict.fromkeys(("StrictGreaterThan", "GreaterThan", "StrictLessThan", "LessThan"), 1)


def build(tree: list[Any], symbols: dict[str, Any]) -> Any:
    """Return the SymPy expression or condition of a tree."""
    head, *parts = tree
    if head == "Symbol":
        return symbols[parts[0]]
    if head == "Rational":
        return sp.Rational(*parts)
    if head in ("pi", "true", "false"):
        return getattr(sp, head)
    if head == "Piecewise":
        return sp.Piecewise(*([build(part, symbols) for part in pair] for pair in parts))
    return getattr(sp, head)(*(build(part, symbols) for part in parts))


def revive(trees: list[list[Any]] | None, names: list[str]) -> tuple[Any, ...] | None:
    """Return SymPy expressions in real variables of these names, None for None."""
    symbols = {name: sp.Symbol(name, real=True) for name in names}
    return None if trees is None else tuple(build(tree, symbols) for tree in trees)


def to_trees(*exprs: Any) -> list[list[Any]] | None:
    """Return the trees of SymPy expressions, None if one has a node that trees do not have."""
    with suppress(ValueError):
        return [to_tree(expr) for expr in exprs]


def to_tree(expr: Any) -> list[Any]:
    """Return the tree of a SymPy expression, or raise a ValueError."""
    if expr.is_Rational:
        return ["Rational", int(expr.p), int(expr.q)]
    if expr.is_Symbol:
        return ["Symbol", expr.name]
    if expr in (sp.pi, sp.true, sp.false):
        return [str(expr).lower()]
    if expr is sp.E:
        return ["exp", ["Rational", 1, 1]]
    head = type(expr).__name__
    if not hasattr(sp, head):
        raise ValueError(f"no tree for {head}")
    return [head, *map(to_tree, expr.args)]


def pieces(expr: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return the smooth pieces of an expression, each with the conditions under which it holds."""
    atoms = sorted(expr.atoms(*KINKED), key=sp.default_sort_key)
    inner = next((a for a in atoms if not any(u.atoms(*KINKED) for u in a.args)), None)
    if inner is None:
        return [(expr, where)]
    out: list[tuple[Any, tuple[Any, ...]]] = []
    for value, condition in _choices(inner):
        rest = tuple(c.xreplace({inner: value}) for c in where)
        out += pieces(expr.xreplace({inner: value}), (*rest, condition))
        if len(out) > MOST_PIECES:
            raise ValueError(f"expression must have at most {MOST_PIECES} pieces; simplify it")
    return out


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
    size = u if isinstance(atom, sp.Abs) else sp.Integer(1)
    return [(size, sp.Gt(u, 0)), (-size, sp.Lt(u, 0))]


def excluded(tree: list[Any], symbols: dict[str, Any]) -> list[str]:
    """Return, as text, where pieces meet and where a part of the tree is not real or not smooth."""
    # The parts come from the formula as written, because SymPy cancels x/x and others.
    found = sorted(_edges(tree, symbols), key=lambda edge: edge[:2])
    return list(dict.fromkeys(text for *_, text in found if text))


def _edges(tree: list[Any], symbols: dict[str, Any]) -> Iterator[tuple[int, Any, str]]:
    """Yield rank, sort key and text of the edges of all parts."""
    head, *parts = tree
    if isinstance(head, list):  # a value with its condition
        parts = tree
    elif head in RANKS:
        args = [build(part, symbols) for part in parts]
        key = [sp.default_sort_key(arg) for arg in args] if head[-4:] != "Than" else []
        yield from ((RANKS[head], key, text) for text in _edge(head, *args))
    for part in parts:
        if isinstance(part, list):
            yield from _edges(part, symbols)


def _edge(head: str, u: Any, *rest: Any) -> list[str]:
    if head in ("Pow", "sqrt") and (rest or [sp.Rational(1, 2)])[0].is_integer:
        return [_zeros(u, "=")] if rest[0].is_negative else []
    if head in ("Max", "Min"):
        whole = getattr(sp, head)(u, *rest)
        flat = whole.args if isinstance(whole, sp.Max | sp.Min) else (u, *rest)
        return [_meet(a, b) for a, b in combinations(flat, 2)]
    if head == "atan2":
        return [" and ".join(filter(None, [f"{u} = 0" if u != 0 else "", f"{rest[0]} <= 0"]))]
    if head in ("tan", "asin", "acos"):
        return [f"cos({u}) = 0" if head == "tan" else f"abs({u}) >= 1"]
    if rest and head != "Pow":
        return [_meet(u, *rest)]
    return [_zeros(u, "=" if head in ("Abs", "sign") else "<=")]


def _meet(a: Any, b: Any) -> str:
    return "" if (a - b).is_number else f"{a} = {b}"


def _zeros(u: Any, sign: str) -> str:
    """Return ``u = 0`` or ``u <= 0`` in its shortest form, or nothing where it cannot hold."""
    if isinstance(u, sp.Abs):
        return _zeros(u.args[0], "=")
    if u.is_positive or u.is_number or (sign == "=" and u.is_nonzero):
        return ""
    if u.is_nonnegative:
        sign = "="
        powers = [t.as_base_exp() for t in (u.args if u.is_Add else (u,))]
        if all(base.is_Symbol and exponent != 1 for base, exponent in powers):
            return " = ".join([*(str(base) for base, _ in powers), "0"])
    return f"{u} {sign} 0"


def sample(symbols: list[Any]) -> list[dict[str, Any]]:
    """Return random rational points of several sizes, by name."""
    draw = random.Random(0)
    points = []
    for size in SIZES:
        point = {}
        for s in symbols:
            value = sp.Rational(round(draw.uniform(-size, size) * 64), 64)
            # A positive variable must not be 0 either.
            point[s.name] = abs(value) + sp.Rational(1, 64) if s.is_positive else value
        points.append(point)
    return points


def _cross(g: list[Any], Hg: list[Any]) -> list[Any]:
    """Return numbers that are all 0 if Hg is parallel to g."""
    return [Hg[i] * g[j] - Hg[j] * g[i] for i, j in combinations(range(len(g)), 2)]


class Piece:
    """Collect numeric and algebraic results on one smooth piece, an expression of the symbols."""

    def __init__(self, expr: Any, where: Any, symbols: list[Any], tree: Any) -> None:
        self.where, self.symbols = where, symbols
        self.tree = tree  # of the whole formula as written, which must be real and smooth
        self.g = [sp.diff(expr, s) for s in symbols]
        self.square = sp.Add(*(gi**2 for gi in self.g))
        self.Hg = [sp.diff(self.square, s) / 2 for s in symbols]
        self.seen: list[tuple[dict[str, Any], Any]] = []  # points with ||g||^2
        self.witness: dict[str, Any] | None = None
        self.at_witness: list[Any] = []
        self.largest = 0.0
        self.bent = False

    def look(self, points: list[dict[str, Any]], precisions: tuple[int, ...]) -> None:
        """Enclose Hg at points of the piece, and keep the first point where Hg is not 0."""
        trees = to_trees(self.where, *self.g, *self.Hg)
        if trees is None:
            return
        where, trees[0] = trees[0], self.tree
        self.seen, n = [], len(self.g)
        for point in points:
            if len(self.seen) >= POINTS:
                break
            for digits in precisions:
                at = around(point, digits)
                inside = enclose_all([where], at) == [True]
                values = enclose_all(trees, at) if inside else None
                if values is None or self._keep(point, values[1 : n + 1], values[n + 1 :]):
                    break

    def _keep(self, point: dict[str, Any], g: list[Any], Hg: list[Any]) -> bool:
        """Keep the numbers at a point, unless they leave open if Hg is 0."""
        cross, size = _cross(g, Hg), 1 + max(abs(v).b for v in g)
        # An interval around 0 must be short, else large terms cancel in it.
        if not all(nonzero([v]) or v.delta < 1e-20 * size**2 for v in (*Hg, *cross)):
            return False
        self.seen.append((point, sum(v * v for v in g)))
        self.bent = self.bent or nonzero(cross)
        self.largest = max(self.largest, *(abs(float(v.mid)) for v in Hg))
        if nonzero(Hg) and self.witness is None:
            self.witness, self.at_witness = point, [mp.mpf(v.mid) for v in Hg]
        return True

    def solve(self) -> dict[str, Any]:
        """Bring ``||g||^2`` to a constant by algebra, or at least simplify its gradient."""
        square = self.square
        for form in (sp.simplify, lambda e: sp.simplify(sp.trigsimp(sp.expand(e))), sp.factor):
            square = form(self.square)
            if not square.has(*self.symbols) and self._agrees(square):
                zeros = [sp.Integer(0)] * len(self.symbols)
                return self.answer(zeros, square)
        Hg = [sp.simplify(sp.diff(square, s) / 2) for s in self.symbols]
        if any(Hg) or not self.seen:
            return self.answer(Hg)
        # ||g||^2 is constant on each connected part, and a point gives the constant.
        place = {s: self.seen[0][0][s.name] for s in self.symbols}
        constant = sp.simplify(self.square.subs(place))
        return self.answer(Hg, constant if self._agrees(constant) else None)

    def _agrees(self, square: Any) -> bool:
        """Return True if a constant may be ``||g||^2`` at all points seen."""
        trees = to_trees(square)
        for point, found in self.seen:
            values = enclose_all(trees, around(point, PRECISIONS[0])) if trees else None
            if values is None or nonzero([values[0] - found]):
                return False
        return trees is not None

    def answer(self, Hg: list[Any], square: Any = None) -> dict[str, Any]:
        """Return the piece as JSON values, with the root of the square as its speed."""
        zero = all(h == 0 for h in Hg)
        speed = None if square is None else [to_tree(sp.sqrt(square))]
        return {"where": str(self.where), "hg": to_trees(*Hg), "speed": speed, "zero": zero}


def prove(request: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict as JSON values, and report the numeric evidence before the algebra."""
    tree, domain = request["tree"], ["And", *request["domain"]]
    symbols, zero = {}, ["Rational", 0, 1]
    for name in [*request["variables"], *request["constants"]]:
        u = ["Symbol", name]
        known = ["StrictGreaterThan", u, zero] in domain or ["StrictLessThan", zero, u] in domain
        symbols[name] = sp.Symbol(name, real=True, positive=known or None)
    variables = [symbols[name] for name in request["variables"]]
    drawn = sample(list(symbols.values()))
    points = [p for p in drawn if enclose_all([domain], around(p, PRECISIONS[0])) == [True]]
    if not points:
        got = f"no point of the domain among {len(SIZES)}"
        raise ValueError(f"domain must hold somewhere, got {got}; enlarge it")
    inside = build(domain, symbols)
    parts = [(e, sp.And(*where, inside)) for e, where in pieces(_rooted(build(tree, symbols)))]
    found = [Piece(e, where, variables, tree) for e, where in parts if where != sp.false]
    for piece in found:
        piece.look(points, PRECISIONS)
    evidence = {
        "points": sum(len(p.seen) for p in found),
        "largest": max((p.largest for p in found), default=0.0),
    }
    if not evidence["points"]:
        got = f"no real value with a gradient at {len(points)} points of its domain"
        raise ValueError(f"expression must be real and smooth, got {got}; change the expression")
    report({"evidence": evidence, "excluded": excluded(tree, symbols)})
    return _judge(found, points, evidence)


def _rooted(expr: Any) -> Any:
    """Return an expression in which roots of squares are absolute values."""

    def power(base: Any, exponent: Any) -> Any:
        whole = sp.factor(base) if base.is_Add and not exponent.is_integer else base
        return sp.Pow(whole if whole.is_Pow else base, exponent)

    return expr.replace(sp.Pow, power)


def _judge(found: list[Piece], points: list[dict[str, Any]], evidence: Any) -> dict[str, Any]:
    """Return the verdict, and report a witness before the algebra, which can be too slow."""
    if not any(piece.witness for piece in found):
        answers = [piece.solve() for piece in found]
        # A piece that no point met may be empty; it must be proved, but it is not shown.
        met = [answer for answer, piece in zip(answers, found, strict=True) if piece.seen]
        if all(answer["zero"] for answer in answers):
            return {"verdict": "corridor", "pieces": met}
        for piece in found:
            piece.look(points, PRECISIONS[-1:])
        if not any(piece.witness for piece in found):
            return {"verdict": "undecided", "pieces": met}
    against = next(piece for piece in found if piece.witness)
    digits = against.at_witness
    Hg = [sp.factor(h) if h.count_ops() < 200 else h for h in against.Hg]
    answer = {
        "verdict": "not a corridor" if any(p.bent for p in found) else "undecided",
        "witness": {k: str(v) for k, v in (against.witness or {}).items()},
        "pieces": [against.answer(Hg)],
        "evidence": {
            **evidence,
            "hg_at_witness": [float(v) for v in digits],
            "digits": [f"{float(v):.4g}" if float(v) or not v else mp.nstr(v, 4) for v in digits],
        },
    }
    if answer["verdict"] == "undecided":
        report(answer)
        if all(sp.simplify(c) == 0 for p in found for c in _cross(p.g, p.Hg)):
            answer["verdict"] = "weak corridor"
    return answer


def report(message: dict[str, Any]) -> None:
    """Write one line of the answer."""
    print(json.dumps(message), flush=True)


def main() -> None:
    """Answer one request."""
    with suppress(ImportError, ValueError, OSError):  # else the caller's time limit still holds
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        report(prove(json.loads(sys.stdin.read())))
    except (ValueError, RecursionError, MemoryError, ArithmeticError, TypeError) as error:
        report({"failed": f"{type(error).__name__}: {error}"})

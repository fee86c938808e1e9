"""Proofs: the verdicts of all surfaces with a formula, pieces, witnesses, time and bad input."""

from __future__ import annotations

import os
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import sympy
import torch

import corridor
from corridor import proofs, surfaces
from corridor.surfaces import SURFACES, Expression, Verdict, surface
from corridor.surfaces.base import variable_names

# The verdict must not depend on how busy the machine is.
prove = partial(surfaces.prove, time_limit=200.0)

WITH_FORMULA = [name for name in SURFACES if surface(name).expression]


@pytest.mark.parametrize("name", WITH_FORMULA)
def test_the_proof_agrees_with_the_surface(name: str):
    loss = surface(name)
    found = prove(str(loss.expression))
    assert found.verdict is loss.verdict
    assert bool(found) is loss.is_corridor
    if loss.speed is not None:
        assert float(found.speed) == pytest.approx(loss.speed, abs=1e-12)


def test_enough_formulas_of_either_kind():
    kinds = [surface(name).is_corridor for name in WITH_FORMULA]
    assert sum(kinds) >= 12
    assert len(kinds) - sum(kinds) >= 12


@pytest.mark.parametrize("name", WITH_FORMULA)
def test_the_formula_is_the_surface(name: str):
    loss = surface(name)
    x = loss.sample(20)
    formula = Expression(str(loss.expression), variable_names(x.shape[-1]))
    torch.testing.assert_close(formula(x), loss(x), rtol=1e-12, atol=1e-12)


def test_a_witness_is_a_point_where_hg_is_not_zero():
    found = prove("x**3 - x*y")
    assert found.witness is not None
    values = [float(Fraction(v)) for v in found.witness.values()]
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(Expression("x**3 - x*y")(x), x, create_graph=True)
    (Hg,) = torch.autograd.grad(0.5 * g.square().sum(), x)
    assert Hg.tolist() == pytest.approx(found.evidence["hg_at_witness"])
    assert found.hg is not None
    symbols = [sympy.Symbol(n, real=True) for n in "xy"]
    ours = [float(h.subs(dict(zip(symbols, values, strict=True)))) for h in found.hg]
    assert ours == pytest.approx(Hg.tolist())


def test_pieces_have_speeds_of_their_own():
    found = prove("min(sqrt(x**2 + y**2), x/2 + y + 1)")
    assert found
    assert {str(piece.speed) for piece in found.pieces} == {"1", "sqrt(5)/2"}
    assert found.speed is None
    assert "x/2 + y + 1 = sqrt(x**2 + y**2)" in found.excluded
    assert "sqrt(5)/2 where" in str(found)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("abs(x)", {"x > 0", "x < 0"}),
        ("sign(x)*y", {"x > 0", "x < 0"}),
        ("max(x, 1)", {"x > 1", "1 > x"}),
        ("min(x, 1)", {"1 < x", "x < 1"}),
    ],
)
def test_the_pieces_cover_both_sides_of_a_kink(text: str, where: set[str]):
    assert {piece.where for piece in prove(text).pieces} == where


def test_one_crooked_piece_is_enough_to_refute():
    found = prove("Piecewise((x + y, x > 0), (y + x**2, True))")
    assert found.verdict is Verdict.NEITHER
    assert found.witness is not None
    assert float(Fraction(found.witness["x"])) < 0.0


def test_a_domain_can_decide():
    text = "abs(x) + (x - abs(x))**2"
    assert not prove(text)
    assert prove(text, domain="x > 0")


def test_conditions_of_a_domain_add_up():
    assert prove("sqrt(x**2)", domain=["x > 0", "x < 5"]).excluded == ()
    with pytest.raises(ValueError, match="no point of the domain"):
        prove("x", domain="x**2 < -1")


@pytest.mark.parametrize(
    ("text", "excluded"),
    [
        ("sqrt(x**2 + y**2 + 1)", ()),
        ("log(x) + 1/y", ("y = 0", "x <= 0")),
        ("atan2(y, x)", ("y = 0 and x <= 0",)),
        ("sqrt(x**2 + y**2)", ("x = y = 0",)),
        ("Piecewise((x, x > 1), (2*x, x > -1), (3*x, True))", ("x = 1", "x = -1")),
    ],
)
def test_excluded_sets_are_named(text: str, excluded: tuple[str, ...]):
    assert prove(text).excluded == excluded


def test_it_is_corridors_own_prove():
    assert corridor.prove is surfaces.prove is proofs.prove
    found = corridor.prove("sqrt(x**2 + y**2 + z**2)", variables=["z", "y", "x"])
    assert found.variables == ("z", "y", "x")
    assert found.hg == (0, 0, 0)
    assert found.speed == 1


def test_the_time_limit_ends_it():
    """Numbers say zero at every point, algebra takes too long: undecided, with the evidence."""
    terms = "+".join(f"sin({k}*x)**2 + cos({k}*x)**2" for k in range(2, 40))
    begun = time.monotonic()
    found = prove(f"({terms})**7*y", time_limit=2.0)
    assert time.monotonic() - begun < 60.0  # of which a busy machine may need most to start
    assert found.verdict in (Verdict.UNDECIDED, Verdict.CORRIDOR)
    stuck = prove("max(" + ",".join(f"x*{k} + y*{k * k}" for k in range(12)) + ")", time_limit=0.05)
    assert stuck.verdict is Verdict.UNDECIDED
    assert "time limit of 0.05 s" in str(stuck)
    assert not stuck


def children() -> set[str]:
    me = os.getpid()
    listed = Path(f"/proc/{me}/task/{me}/children")
    return set(listed.read_text().split()) if listed.exists() else set()


def test_no_prover_outlives_its_limit():
    before = children()  # such as the ranks that other tests keep
    prove("sqrt(x**2 + y**2)", time_limit=0.01)
    assert children() <= before


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: prove("sqrt(x"), "the expression cannot be read: '\\(' was never closed"),
        (lambda: prove("__import__('os')"), "unknown function '__import__'"),
        (lambda: prove("sqrt(-x**2 - 1)"), "no real value with a gradient"),
        (lambda: prove("x", domain="x"), "must be a comparison such as x > 0, got a name"),
        (lambda: prove("x", domain="y > 0"), "variables must be in the"),
        (lambda: prove("x", time_limit=0.0), "time_limit must be positive"),
        (lambda: prove(3), "expression must be text, got int"),  # pyright: ignore
        (
            lambda: prove("max(" + ",".join(f"abs(x*{k} + y)" for k in range(9)) + ")"),
            "at most 64 pieces",
        ),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "verdict", "excluded"),
    [
        # Decimals keep all digits that are written.
        ("x + 1e-400*x**2", Verdict.WEAK, ()),
        ("x + (1 - 0.99999999999999999)*x**2", Verdict.WEAK, ()),
        ("x**2 + 1e-30*y**3", Verdict.NEITHER, ()),
        # No witness lies on a kink, and none is the rounding of terms that cancel.
        ("sqrt(x**2 + 2*x + 1)", Verdict.CORRIDOR, ("x**2 + 2*x + 1 <= 0",)),
        ("x + 10**100*10**100*(sin(2*x) - 2*sin(x)*cos(x))", Verdict.CORRIDOR, ()),
        ("x + 10**99*(cos(x)**2 + sin(x)**2 - 1)", Verdict.CORRIDOR, ()),
        # Parts that SymPy cancels still bound the domain.
        ("sqrt(x)**2 + y", Verdict.CORRIDOR, ("x <= 0",)),
        ("exp(log(x))", Verdict.CORRIDOR, ("x <= 0",)),
        ("y/x*x", Verdict.CORRIDOR, ("x = 0",)),
        ("log(x) - log(x) + y", Verdict.CORRIDOR, ("x <= 0",)),
        ("x**-2*x**3", Verdict.CORRIDOR, ("x = 0",)),
        ("0*abs(x*y) + x", Verdict.CORRIDOR, ("x*y = 0",)),
        ("asin(sin(x))", Verdict.CORRIDOR, ("abs(sin(x)) >= 1",)),
        ("atan(x) + atan(1/x)", Verdict.CORRIDOR, ("x = 0",)),
        ("sqrt(x) if x > 0 else 1/y", Verdict.WEAK, ("x = 0", "x <= 0", "y = 0")),
        # A piece far from the origin counts as well.
        ("Piecewise((x**2, x > 1000), (x, True))", Verdict.WEAK, ("x = 1000",)),
        ("Piecewise((x**2*y, x > 1000), (x, True))", Verdict.NEITHER, ("x = 1000",)),
    ],
)
def test_the_formula_as_written_decides(text: str, verdict: Verdict, excluded: tuple[str, ...]):
    found = prove(text)
    assert (found.verdict, found.excluded) == (verdict, excluded)


@pytest.mark.parametrize(
    "text", ["x + 0*sqrt(-1 - x**2)", "x/(y - y)", "x*0**x", "x + log(-exp(x))/10**99"]
)
def test_a_formula_without_real_values_has_no_verdict(text: str):
    with pytest.raises(ValueError, match="no real value with a gradient"):
        prove(text)


def test_rounding_refutes_nothing():
    """tanh(x) rounds to 1 in any number of digits, so that only intervals show what is known."""
    text = "x + tanh(10**6*x) - (1 - 2/(exp(2*10**6*x) + 1))"
    assert surfaces.prove(text, time_limit=2.0).verdict in (Verdict.CORRIDOR, Verdict.UNDECIDED)


def test_speeds_are_named():
    assert "Hg = 0, speed 1\n" in str(prove("(x**3)**(1/3)"))
    assert prove("atan(x) + atan(1/x)").speed == 0
    assert {piece.speed for piece in prove("x + sqrt(x**2 + 2*x + 1)").pieces} == {0, 2}
    assert "Hg = (2.0e-400) at x" in str(prove("x + 1e-400*x**2"))


def test_constants_are_no_variables():
    found = prove("a*x + b", ["x"], constants=["a", "b"])
    assert found
    assert str(found.speed) == "Abs(a)"
    assert prove("a*x + b", ["x"], constants=["a", "b"], domain="a > 0").speed == sympy.Symbol(
        "a", real=True
    )
    assert not prove("a*x**2", ["x"], constants=["a"])
    assert prove("3", ["x"]).speed == 0
    with pytest.raises(ValueError, match="must be all variables of the expression, \\['a', 'x'"):
        prove("a*x", ["x"])
    with pytest.raises(ValueError, match="expression, \\['x'\\], got \\['y'\\]"):
        prove("x", domain="y > 0")


def test_any_time_limit_is_one():
    assert prove("abs(x)", time_limit=float("inf"))
    assert prove("abs(x)", time_limit=1e300)


def test_a_weak_corridor_is_proved_and_not_seen():
    """Near the random points the step at x - y = 40 is constant to 40 digits."""
    found = prove("(x + y)**2 + tanh(30*(x - y - 40))")
    assert found.verdict is Verdict.UNDECIDED
    assert found.witness is not None
    assert prove("log(1 + x**2 + y**2 + z**2)").verdict is Verdict.WEAK

"""Formulas are data: what is let through means what it says, and nothing else gets in."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corridor.proofs.expression import DEEPEST, FUNCTIONS, parse, variables_of
from corridor.surfaces import Expression


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x + 2*y - 3", 0.5 + 2 * 1.5 - 3),
        ("-x**2", -0.25),
        ("x/y/2 - -1", 0.5 / 1.5 / 2 + 1),
        ("x**-y", 0.5**-1.5),
        ("(x - 2)**3", (0.5 - 2) ** 3),
        ("sqrt(x) + exp(y) + ln(x)", math.sqrt(0.5) + math.exp(1.5) + math.log(0.5)),
        ("atan2(y, x) + sign(x - y)*pi", math.atan2(1.5, 0.5) - math.pi),
        ("max(x, y, 1) + min(x, y) + Abs(-x)", 1.5 + 0.5 + 0.5),
        ("x if x > y else y", 1.5),
        ("x if x >= y else y", 1.5),
        ("x if x >= 0.5 and y <= 1.5 and not (x > 0.5 or y < 1.5) else 7", 0.5),
        ("Piecewise((x, x < 0), (y, 0 <= x < 1 and not y < 0), (7, True))", 1.5),
        ("1e-1*x + .5", 0.55),
    ],
)
def test_formulas_mean_what_they_say(text: str, expected: float):
    loss = Expression(text, ["x", "y"])
    x = torch.tensor([0.5, 1.5], dtype=torch.float64)
    assert float(loss(x)) == pytest.approx(expected, rel=1e-14)
    assert loss(x.expand(3, 2)).shape == (3,)


def test_powers_keep_their_derivatives_at_negative_bases():
    x = torch.tensor([-2.0, 0.0], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(Expression("x**3 + y**2")(x), x)
    assert g.tolist() == [12.0, 0.0]


def test_variables_come_in_order():
    assert variables_of(parse("x10 + b*x2 + sqrt(a)")) == ["a", "b", "x2", "x10"]
    assert len(parse("+".join(["x"] * 700))) == 701


HOSTILE = [
    "__import__('os').system('touch {tmp}')",
    "().__class__.__bases__[0].__subclasses__()",
    "x.__class__",
    "x.real",
    "(lambda: open('{tmp}', 'w'))()",
    "[open('{tmp}', 'w') for x in (1,)][0]",
    "open('{tmp}', 'w')",
    "exec('import os')",
    "eval('1')",
    "sqrt(open('{tmp}', 'w'))",
    "sqrt.__globals__",
    "f'{{x}}'",
    "x if __import__('os') else y",
    "(y := x)",
    "x @ y",
    "x[0]",
    "x, y",
    "'x'",
    "sqrt(*x)",
    "sqrt(x, evaluate=False)",
    "getattr(x, 'y')",
    "__builtins__",
    "S('x')",
    "x; y",
    "import os",
    "x\n+ __import__('os')",
    "9**9**9**9",
    "x**(10**10)",
    "2**1000",
    "1e400*x",
    "1j*x",
    "True*x",
    "None",
    "...",
    "await x",
    "x ^ 2",
    "x == y",
    "x > 0",
    "Piecewise(x, y)",
    "frobnicate(x)",
    "atan2(x)",
    "ｘ + 1 + é",
    "",
    "x +",
    "(" * 300 + "x" + ")" * 300,
    "sqrt(" * 200 + "x" + ")" * 200,
    "-" * 1500 + "x",
    "x" * 3000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_else_gets_in(text: str, tmp_path: Path):
    """Refused in one line while it is read, with nothing run."""
    target = tmp_path / "broken-in"
    with pytest.raises(ValueError, match=r"\S") as error:
        parse(text.replace("{tmp}", str(target)))
    assert "\n" not in str(error.value)
    assert not target.exists()


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="xy01.+-*/(),<>=_[]{}'\" \n:abefilnoprstx", max_size=60))
def test_any_text_is_read_or_refused(text: str):
    try:
        tree = parse(text)
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
        assert tree[0] in {"Rational", "pi", "Symbol", "Add", "Mul", "Pow", "Piecewise", *FUNCTIONS}
    assert "\n" not in refused


def test_depth_is_bounded():
    deep = "sqrt(" * (DEEPEST - 2) + "x" + ")" * (DEEPEST - 2)
    assert parse(deep)[0] == "sqrt"
    with pytest.raises(ValueError, match=f"at most {DEEPEST} levels"):
        parse(f"sqrt(sqrt(sqrt({deep})))")


@pytest.mark.parametrize(
    ("text", "variables", "words"),
    [
        ("x + y", ["x"], r"must be all variables of the expression, \['x', 'y'\], got \['x'\]"),
        ("x", ["x", "x"], "variables must be"),
        ("3", None, "must contain a variable"),
        ("x", ["x.y"], "letters and digits"),
    ],
)
def test_variables_must_fit(text, variables, words):
    with pytest.raises(ValueError, match=words):
        Expression(text, variables)

"""``corridor flow`` and ``corridor prove``, by their words and exit statuses."""

from __future__ import annotations

import json

import pytest


def test_gradient_descent_on_the_cone_is_on_the_flow(command):
    status, out, err = command(
        "flow", "cone", "--start", 3, 4, "--method", "gradient_descent", "--step", 0.5, "--steps", 8
    )
    assert (status, err) == (0, "")
    assert out.startswith("cone: corridor, speed 1, f_star 0; gradient descent\n")
    assert "           2             3  1.8 2.4\n" in out
    assert "distance from the gradient flow at time 4: " in out
    assert float(out.split("time 4: ")[1].split()[0]) < 1e-12


def test_negative_coordinates_and_formulas(command):
    status, out, _ = command("flow", "x**2 - y", "--start", -1, -0.5, "--time", 2, "--json")
    assert status == 0
    path = json.loads(out)
    assert path["points"][0] == [-1.0, -0.5]
    assert path["points"][-1] == pytest.approx([-0.0183156389, 1.5], abs=1e-6)  # e^-4, 2 - 1/2
    assert path["stopped"] == "time"


@pytest.mark.parametrize("formula", ["x-y", "x", "x1-x2", "x-y-z"])
def test_a_formula_may_look_like_a_name(command, formula):
    start = [float(i) for i in range(1 + formula.count("-"))]
    status, out, _ = command("flow", formula, "--start", *start, "--time", 2, "--json")
    ends = [start[0] - 2.0, *(value + 2.0 for value in start[1:])]
    assert status == 0
    assert json.loads(out)["points"][-1] == pytest.approx(ends, abs=1e-9)


def test_the_step_over_the_apex_is_told(command):
    arguments = ("--method", "gradient_descent", "--step", 7, "--steps", 1)
    _, out, _ = command("flow", "cone", "--start", 3, -4, *arguments)
    assert "kink at time 5\n" in out
    assert "the gradient flow ends before time 7" in out
    _, out, _ = command("flow", "cone", "--start", 3, -4, "--time", 9)
    assert "stopped: minimum;" in out


@pytest.mark.parametrize("method", ["clr", "heavy_ball", "rk4", "implicit midpoint"])
def test_every_method_is_reached(command, method):
    status, out, _ = command("flow", "ellipse", "--start", 1, 1, "--method", method, "--steps", 3)
    assert status == 0
    assert "distance from the gradient flow" in out


@pytest.mark.parametrize(
    ("expression", "status", "words"),
    [
        ("sqrt(x**2 + y**2)", 0, "Hg = 0, speed 1\nexcluded: x = y = 0"),
        ("-x", 0, "Hg = 0, speed 1"),
        ("x*y", 1, "Hg = (1.375, 1.031) at x = 11/8, y = 33/32"),
        ("x**2 + y**2", 1, "weak corridor"),
    ],
)
def test_prove_answers_by_its_status(command, expression, status, words):
    found, out, err = command("prove", expression)
    assert (found, err) == (status, "")
    assert words in out


def test_the_kinks_of_a_formula_end_a_flow(command):
    for text, start in (("abs(x)", [1]), ("max(x, -2*x)", [-1]), ("sqrt(x**2 + y**2)", [0.6, 0.8])):
        status, out, _ = command("flow", text, "--start", *start, "--time", 3)
        assert (status, "stopped: minimum" in out) == (0, True)
        met = 0.5 if "max" in text else 1.0
        assert f"kink at time {met:.9g}\n" in out + "\n"
    assert "left the domain" in command("flow", "log(x)", "--start", 1, "--time", 3)[1]


def test_prove_takes_constants(command):
    assert command("prove", "3", "--variable", "x")[0] == 0
    names = ("--variable", "x", "--constant", "a", "--constant", "b")
    status, out, _ = command("prove", "a*x + b", *names)
    assert (status, "speed Abs(a)" in out) == (0, True)


def test_undecided_is_a_status_of_its_own(command):
    status, out, _ = command("prove", "sqrt(x**2 + y**2)", "--time-limit", 0.01)
    assert status == 2
    assert "undecided" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["flow", "kone", "--start", "1"], "unknown surface 'kone'; use one of linear"),
        (["flow", "cone"], "--start"),
        (
            ["flow", "cone", "--start", "0", "0"],
            "off its kinks, got margin 0; choose",
        ),
        (["flow", "cone", "--start", "one"], "--start"),
        (["flow", "cone", "--start", "1", "two"], "no such option or coordinate: two"),
        (
            ["flow", "cone", "--start", "1", "2", "--stpe", "3"],
            "no such option or coordinate: --stpe",
        ),
        (["flow", "linear", "--start", "1"], "start must have 2 numbers, got 1"),
        (["flow", "nuclear-norm", "--start", "1"], "6 numbers, got 1; give a 3 x 2 matrix row"),
        (["flow", "cone", "--start", "1", "1", "--method", "magic"], "method must be one of"),
        (["flow", "cone", "--start", "1", "1", "--time", "inf"], "time must be a finite number"),
        (["flow", "x.__class__", "--start", "1"], "got a dot"),
        (["prove", "sqrt(x"], "the expression cannot be read"),
        (["prove", "__import__('os')"], "unknown function '__import__'"),
        (["prove", "x", "--domain", "x"], "must be a comparison such as x > 0"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(refused, arguments, words):
    assert words in refused(*arguments)

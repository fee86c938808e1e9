"""Test that tables verify their order, and that their error has this order."""

from __future__ import annotations

import math

import pytest
import torch

from corridor.flows import TABLES, Table, gradient_flow, runge_kutta
from corridor.surfaces import Rosenbrock

START = torch.tensor([-0.6, 0.8], dtype=torch.float64)


@pytest.mark.parametrize("name", TABLES)
def test_the_order_is_a_slope(name: str):
    loss, time = Rosenbrock(1.0), 0.4
    exact = gradient_flow(loss, START, time, tolerance=1e-13).end
    errors = [
        float((runge_kutta(loss, START, time / n, n, method=name).end - exact).norm())
        for n in (80, 160)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(TABLES[name].order, abs=0.15)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (((0.0, 0.0), (1.0, 0.0)), "wrong must have sum b c = 0.5 for order 2, got 0.6"),
        (((0.0,), (1.0,)), "a must have 2 rows of 2"),
    ],
)
def test_a_table_with_a_wrong_order_is_refused(table, words):
    with pytest.raises(ValueError, match=words):
        Table("wrong", table, (0.4, 0.6), 2)


def test_an_implicit_step_too_large_to_solve_is_one_line():
    stiff = lambda x: 50.0 * x.square().sum()  # noqa: E731
    with pytest.raises(ValueError, match="take a smaller step size"):
        runge_kutta(stiff, START, 0.1, 1, method="implicit midpoint")


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(ValueError, match="euler, heun, kutta3, rk4, implicit midpoint"):
        runge_kutta(Rosenbrock(), START, 0.1, 1, method="rk5")

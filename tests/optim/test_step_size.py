from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corridor.optim import step_size

positive = st.floats(1e-6, 1e6)


def number(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


@given(loss=positive, norm_sq=positive, scale=st.floats(0.1, 4.0))
def test_clr_is_the_formula_of_the_paper(loss: float, norm_sq: float, scale: float):
    h = float(step_size.clr(number(loss), number(norm_sq), scale=scale))
    assert math.isclose(h, scale * loss / norm_sq, rel_tol=1e-12)


@given(loss=positive, norm_sq=positive, a=positive, s=st.floats(1e-3, 1e3))
def test_clr_scales_as_a_step_size_must(loss: float, norm_sq: float, a: float, s: float):
    """E -> a E divides the step by a; theta -> s theta multiplies it by s^2."""
    h = float(step_size.clr(number(loss), number(norm_sq)))
    assert math.isclose(
        float(step_size.clr(number(a * loss), number(a * a * norm_sq))), h / a, rel_tol=1e-9
    )
    assert math.isclose(
        float(step_size.clr(number(loss), number(norm_sq / s**2))), h * s**2, rel_tol=1e-9
    )


@pytest.mark.parametrize(
    ("loss", "norm_sq", "f_star"),
    [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (-1.0, 4.0, 0.0), (0.5, 4.0, 1.0), (0.0, 4.0, 0.0)],
)
def test_no_step_where_there_is_nothing_to_gain(loss: float, norm_sq: float, f_star: float):
    assert float(step_size.clr(number(loss), number(norm_sq), f_star=f_star)) == 0.0


def test_a_quotient_that_overflows_is_the_largest_number():
    h = step_size.clr(torch.tensor(1.0), torch.tensor(1e-44))
    assert float(h) == torch.finfo(torch.float32).max


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_not_usable(bad: float):
    assert not step_size.usable(number(bad), number(1.0))
    assert not step_size.usable(number(1.0), number(bad))
    assert step_size.usable(number(1.0), number(1.0))


def test_momentum_without_a_past_is_clr():
    loss, norm_sq = number(0.7), number(2.0)
    one, zero = number(1.0), number(0.0)
    assert torch.equal(
        step_size.momentum(loss, zero, one, norm_sq, f_star=0.1, scale=0.5),
        step_size.clr(loss, norm_sq, f_star=0.1, scale=0.5),
    )

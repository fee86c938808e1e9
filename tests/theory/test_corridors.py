"""Test section 2 and theorem 3.1 inside and outside corridors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.theory.families import CORRIDORS

from corridor import theory
from corridor.flows import gradient_descent, gradient_flow
from corridor.surfaces import (
    Cone,
    Linear,
    LogSumExp,
    PowerNorm,
    Quadratic,
    Rosenbrock,
    Saddle,
)

OFF = {
    "log-sum-exp": (LogSumExp(), [0.3, -0.5]),
    "saddle": (Saddle(), [1.0, 0.4]),
    "rosenbrock": (Rosenbrock(1.0), [-0.4, 0.7]),
    "cubic cone": (PowerNorm(3.0), [0.5, 0.7]),
    "ellipse": (Quadratic([[1.0, 0.3], [0.3, 2.0]]), [0.9, -0.4]),
}


def last(name: str) -> float:
    """Return a time within the corridor: 0.99 of its horizon, at most 1."""
    loss, start = CORRIDORS[name]
    wall = gradient_flow(loss, start, 40.0)
    end = wall.exit_time if wall.exit_time is not None else math.inf
    return min(0.99 * theory.horizon(loss, start), 0.99 * end, 1.0)


@pytest.mark.parametrize("name", CORRIDORS)
def test_corridors_are_straight_and_linear(name: str):
    """Theorem 2.11, lemma 2.9 and proposition 2.10 hold until the horizon."""
    loss, start = CORRIDORS[name]
    time = last(name)
    line = theory.lemma_2_9(loss, start, time)
    fall = theory.proposition_2_10(loss, start, time)
    assert line, line
    assert fall, fall
    assert line.detail["gradient change"] < 1e-12
    assert fall.detail["unexplained variance"] < 1e-12
    path = gradient_flow(loss, start, time, at=torch.linspace(0.0, time, 9))
    straight = theory.straightness(path)
    assert max(straight.deviation, straight.speed_variation) < 1e-8


@pytest.mark.parametrize("name", OFF)
def test_off_corridors_flows_bend_or_slow_down(name: str):
    loss, start = OFF[name][0], torch.tensor(OFF[name][1], dtype=torch.float64)
    assert not theory.lemma_2_9(loss, start, 0.5)
    assert not theory.proposition_2_10(loss, start, 0.5)
    assert not theory.theorem_3_1(loss, start, 0.1, 5)


@pytest.mark.parametrize("name", OFF)
@pytest.mark.parametrize(("delta", "bound"), [(1e-3, 2e-3), (1e-4, 2e-4)])
def test_lemma_2_8(name: str, delta: float, bound: float):
    loss, start = OFF[name][0], torch.tensor(OFF[name][1], dtype=torch.float64)
    gentle = (
        0.1 if name in ("rosenbrock", "cubic cone") else 1.0
    )  # the constant of the error is the loss's own
    found = theory.lemma_2_8(lambda x: gentle * loss(x), start, delta)
    assert 0.0 < found.measured < bound


@pytest.mark.parametrize("name", CORRIDORS)
def test_gradient_descent_steps_on_the_flow(name: str):
    """Theorem 3.1 holds while n h is below the exit time."""
    loss, start = CORRIDORS[name]
    time = last(name)
    for steps in (1, 7):
        found = theory.theorem_3_1(loss, start, time / steps, steps)
        assert found, found
        assert found.detail["exit time"] == math.inf


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-3.0, 3.0), min_size=2, max_size=6), st.floats(1.01, 3.0))
def test_a_step_past_the_apex_is_seen(values: list[float], past: float):
    """Subtlety S4: the whole segment counts, with and without a known domain."""
    start = torch.tensor(values, dtype=torch.float64)
    radius = float(start.norm())
    if radius < 0.1:
        return
    found = theory.theorem_3_1(Cone(), start, past * radius, 1)
    assert not found
    assert found.detail["exit time"] == pytest.approx(radius, abs=1e-5)
    for loss in (Cone(), lambda x: x.norm()):
        assert not theory.stays_inside(loss, start, past * radius)
        assert theory.stays_inside(loss, start, 0.9 * radius)


@pytest.mark.parametrize("name", OFF)
def test_off_corridors_the_drift_is_half_h_squared_hg(name: str):
    """The converse of theorem 3.1 holds."""
    loss, start = OFF[name][0], torch.tensor(OFF[name][1], dtype=torch.float64)
    found = theory.theorem_3_1_converse(loss, start)
    assert found, found
    assert found.detail["coefficient over prediction"] == pytest.approx(1.0, abs=0.01)


def test_a_check_says_what_it_found():
    found = theory.lemma_2_9(Cone(), torch.tensor([3.0, 4.0]).double(), 4.0)
    assert str(found).startswith("lemma 2.9, straight flow lines with one gradient: holds (")
    assert "does not hold" in str(theory.lemma_2_9(Saddle(), torch.tensor([1.0, 0.4]).double(), 1))


@pytest.mark.parametrize("loss", [Cone(), lambda x: x.norm()])
def test_a_flow_that_ends_earlier_refutes(loss):
    x = torch.tensor([3.0, 4.0], dtype=torch.float64)
    for found in (
        theory.theorem_3_1(loss, x, 7.0, 1),
        theory.lemma_2_9(loss, x, 7.0),
        theory.proposition_2_10(loss, x, 7.0),
    ):
        assert not found
        assert found.measured == math.inf
    assert theory.theorem_3_1(loss, x, 0.5, 9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: theory.lemma_2_8(Cone(), x.double() * 0), "off its kinks, got margin 0"),
        (lambda x: theory.lemma_2_8(Linear([1.0, 0.0]), x), "start must have Hg != 0"),
        (lambda x: theory.theorem_3_1_converse(Linear([1.0, 0.0]), x), "start must have Hg != 0"),
        (
            lambda x: theory.straightness(gradient_descent(Cone(), x, 1.0, 0)),
            "two different ends",
        ),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.tensor([3.0, 4.0], dtype=torch.float64))


def test_float32_does_not_refute_a_theorem():
    """A loss of any dtype is evaluated in float64; the bound of a float32 loss is wider."""
    x = torch.tensor([3.0, 4.0])
    eye = torch.eye(2)
    for loss in (Cone(), lambda q: (q @ eye).norm()):
        assert theory.lemma_2_9(loss, x, 4.0)
        assert theory.proposition_2_10(loss, x, 4.0)
        assert theory.theorem_3_1(loss, x, 0.5, 9)
        assert theory.lemma_a_1(loss, x, 0.1, 0.5, 5)
        assert theory.appendix_a_2(loss, x, 0.5, 3)
    assert not theory.lemma_2_9(lambda q: (q @ eye)[0] * q[1], x, 0.5)

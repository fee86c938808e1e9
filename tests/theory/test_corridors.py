"""Section 2 and theorem 3.1 at the tolerances of the acceptance table."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.theory.families import CORRIDORS

from corridor import theory
from corridor.flows import drift, gradient_descent, gradient_flow
from corridor.surfaces import (
    SURFACES,
    Cone,
    FixedStep,
    Linear,
    LogDistance,
    LogSumExp,
    PowerNorm,
    Quadratic,
    RiverValley,
    Rosenbrock,
    Saddle,
    Verdict,
    surface,
)

OFF = {
    "log-sum-exp": (LogSumExp(), [0.3, -0.5]),
    "saddle": (Saddle(), [1.0, 0.4]),
    "rosenbrock": (Rosenbrock(1.0), [-0.4, 0.7]),
    "cubic cone": (PowerNorm(3.0), [0.5, 0.7]),
    "ellipse": (Quadratic([[1.0, 0.3], [0.3, 2.0]]), [0.9, -0.4]),
}


def last(name: str) -> float:
    """A time that lies within the corridor: 0.99 of its horizon, at most 1."""
    loss, start = CORRIDORS[name]
    wall = gradient_flow(loss, start, 40.0)
    end = wall.exit_time if wall.exit_time is not None else math.inf
    return min(0.99 * theory.horizon(loss, start), 0.99 * end, 1.0)


@pytest.mark.parametrize("name", SURFACES)
@pytest.mark.parametrize("knows_domain", [True, False])
def test_the_detector_tells_corridors_from_the_rest(name: str, knows_domain: bool):
    """Theorem 2.11 on 20 corridors and 15 surfaces that are none."""
    loss = surface(name)
    found = theory.detect(loss if knows_domain else lambda x: loss(x), loss.sample(6, seed=9))
    assert found.verdict is loss.verdict
    assert bool(found) is loss.is_corridor


def test_enough_of_either_kind_is_told_apart():
    kinds = [surface(name).is_corridor for name in SURFACES]
    assert sum(kinds) >= 12
    assert len(kinds) - sum(kinds) >= 12


def test_points_of_a_river_do_not_make_a_corridor():
    """Subtlety S6: Hg = 0 on a line, and at critical points, proves nothing."""
    river = torch.tensor([[0.0, y] for y in (-1.0, 0.0, 2.0)], dtype=torch.float64)
    assert theory.detect(RiverValley(), river, beside=0).verdict is Verdict.CORRIDOR
    assert theory.detect(RiverValley(), river).verdict is Verdict.NEITHER
    bottom = theory.detect(Quadratic(), torch.zeros(1, 2).double(), beside=0)
    assert bottom.verdict is Verdict.UNDECIDED
    assert bottom.skipped == bottom.points == 1


def test_one_step_size_is_not_enough():
    """Subtlety S5: with one h gradient descent is the flow though Hg is far from 0."""
    loss = FixedStep(0.5)
    for t in (0.02, 0.2, 0.4):
        start = loss.at_time(torch.tensor([t], dtype=torch.float64))
        once = drift(gradient_descent(loss, start, 0.5, 1), loss)
        assert float(once.distance[-1]) < 1e-8
        flow = loss.at_time(torch.tensor([t + 0.5], dtype=torch.float64))
        assert float((gradient_descent(loss, start, 0.5, 1).end - flow).abs()) < 1e-14
        half = loss.at_time(torch.tensor([t + 0.25], dtype=torch.float64))
        assert float((gradient_descent(loss, start, 0.25, 1).end - half).abs()) > 1e-3
    assert theory.detect(loss, loss.sample(6)).verdict is not Verdict.CORRIDOR
    with pytest.raises(ValueError, match="step_sizes must hold at least two"):
        theory.theorem_3_1_converse(loss, start, [0.5])


def test_weak_corridors_are_straight_and_change_their_speed():
    """Subtlety S1: gradient descent stays on the line, at other times."""
    start = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for loss in (Quadratic(), LogDistance(), PowerNorm(1.5)):
        flow = gradient_flow(loss, start, 0.5, at=torch.linspace(0.0, 0.5, 11))
        straight = theory.straightness(flow)
        assert straight.deviation < 1e-8
        assert straight.speed_variation > 1e-2
        descent = gradient_descent(loss, start, 0.25, 2)
        assert theory.straightness(descent).deviation < 1e-12
        assert float(drift(descent, loss).relative[-1]) > 1e-3


@pytest.mark.parametrize("name", CORRIDORS)
def test_corridors_are_straight_and_linear(name: str):
    """Theorem 2.11, lemma 2.9, proposition 2.10, until the horizon."""
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
    """Theorem 3.1, forward, while n h stays below the exit time."""
    loss, start = CORRIDORS[name]
    time = last(name)
    for steps in (1, 7):
        found = theory.theorem_3_1(loss, start, time / steps, steps)
        assert found, found
        assert found.detail["exit time"] == math.inf


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-3.0, 3.0), min_size=2, max_size=6), st.floats(1.01, 3.0))
def test_a_step_past_the_apex_is_seen(values: list[float], past: float):
    """Subtlety S4, the segment and not its ends, with and without a known domain."""
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
    """Theorem 3.1, converse."""
    loss, start = OFF[name][0], torch.tensor(OFF[name][1], dtype=torch.float64)
    found = theory.theorem_3_1_converse(loss, start)
    assert found, found
    assert found.detail["coefficient over prediction"] == pytest.approx(1.0, abs=0.01)


def test_a_check_says_what_it_found():
    found = theory.lemma_2_9(Cone(), torch.tensor([3.0, 4.0]).double(), 4.0)
    assert str(found).startswith("lemma 2.9, straight flow lines with one gradient: holds (")
    assert "does not hold" in str(theory.lemma_2_9(Saddle(), torch.tensor([1.0, 0.4]).double(), 1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: theory.lemma_2_8(Cone(), x.double() * 0), "off its kinks, got margin 0"),
        (lambda x: theory.lemma_2_8(Linear([1.0, 0.0]), x), "start must have Hg != 0"),
        (lambda x: theory.theorem_3_1_converse(Linear([1.0, 0.0]), x), "start must have Hg != 0"),
        (lambda x: theory.detect(Cone(), []), "at least one point"),
        (
            lambda x: theory.straightness(gradient_descent(Cone(), x, 1.0, 0)),
            "two different ends",
        ),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.tensor([3.0, 4.0], dtype=torch.float64))

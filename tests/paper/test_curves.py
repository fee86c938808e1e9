from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corridor.paper.curves import POINTS, Curve, band, first_below, running_mean, spread, thinned


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.integers(1, 10))
def test_running_mean_is_the_mean_of_the_last_values(values: list[float], window: int):
    for index, mean in enumerate(running_mean(values, window)):
        last = values[max(0, index - window + 1) : index + 1]
        assert mean == pytest.approx(sum(last) / len(last), abs=1e-9)


def test_running_mean_forgets_a_loss_that_was_not_finite():
    means = running_mean([1.0, math.nan, 2.0, 4.0], 2)
    assert means == [1.0, math.inf, math.inf, 3.0]


def test_the_target_counts_from_a_full_window_on():
    assert first_below([0.001, 0.5, 0.005, 0.001], 0.01, window=2) == 3
    assert first_below([1.0, 0.5], 0.01, window=1) is None


def test_spread_counts_a_missing_value_as_infinite():
    assert spread([3.0, None, 5.0]) == (3.0, 5.0, math.inf)


def curve(steps: list[int], loss: list[float]) -> Curve:
    return Curve(
        "finished", steps, loss, loss, [], [], None, 1.0, 1.0, 1.0, 1.0, loss[-1], math.nan
    )


def test_a_band_covers_the_steps_that_all_runs_have():
    values = band([curve([1, 2, 3], [3.0, 2.0, 1.0]), curve([1, 2], [5.0, 1.0])], "loss")
    assert values == {"x": [1, 2], "low": [3.0, 1.0], "median": [4.0, 1.5], "high": [5.0, 2.0]}


def test_a_huge_loss_leaves_no_trace_in_later_means():
    means = running_mean([1e17, 1e-3, 1e-3, 2e-3], 2)
    assert means[2:] == pytest.approx([1e-3, 1.5e-3])


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_runs_of_unequal_length_keep_the_same_places(first: int, second: int):
    short, long = sorted((first, second))
    kept = {*thinned(short)}
    assert {place for place in thinned(long)[:-1] if place < short} <= kept
    assert len(kept) <= POINTS + 1
    assert {0, short - 1} <= kept

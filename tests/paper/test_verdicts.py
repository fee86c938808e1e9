"""The rules from curves to verdicts, on made-up curves and on the kept results."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.paper.made_up import curve, load

from corridor.paper import verdicts
from corridor.paper.results import Setting
from corridor.train.config import Config

numbers = st.lists(st.one_of(st.none(), st.floats(0, 10)), min_size=1, max_size=5)


@given(numbers, numbers)
def test_the_order_is_antisymmetric_and_overlapping_ranges_tie(mine: list, theirs: list):
    found = verdicts.order(mine, theirs)
    assert found == -verdicts.order(theirs, mine)
    if None not in mine + theirs:
        apart = max(mine) < min(theirs) or min(mine) > max(theirs)
        assert (found != 0) == apart


def test_missing_values_count_as_infinite():
    assert verdicts.order([None, None], [100, None, 120]) == 1
    assert verdicts.order([None], [None]) == 0
    assert verdicts.order([5, 6], [None]) == -1


def test_the_medians_decide_if_one_of_them_is_missing():
    assert verdicts.order([None, None, 5], [6, 7, 8]) == 1
    assert verdicts.order([10, 11, 12], [None, None, 9]) == -1
    assert verdicts.order([None, None, 5], [9, None, None]) == 0
    assert verdicts.order([1, 2, None], [3, 4, 5]) == 0  # neither is missing in the median


def setting(*losses: float) -> Setting:
    curves = [curve(None, 0.5, 1.0, final=loss) for loss in losses]
    return Setting(Config(optimizer="sgd", lr=1.0), curves)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([(3.0,), (2.5,)], ("holds", "")),
        ([(3.0,), (1.5,)], verdicts.TIE),
        ([(0.5,), (1.5,)], ("does not hold", "")),
    ],
)
def test_lower_than_all_needs_every_run_below_every_run(others: list, expected: tuple):
    found = verdicts.lower_than_all(setting(1.0, 2.0), [setting(*o) for o in others], "final_loss")
    assert found == expected


def test_divergence_is_a_loss_that_ends_where_it_began():
    assert curve(None, 0.1, 30.0, final=2.4).diverged
    assert replace(curve(None, 0.1, 30.0), status="diverged").diverged
    assert not curve(None, 0.1, 0.01, final=1.8).diverged


@pytest.mark.parametrize("number", [5, 6])
def test_convergence_asks_for_a_tenth_of_the_first_loss(number: int, tmp_path: Path):
    results = load(number, tmp_path)
    for claim, found in zip(verdicts.converges(results, ""), results.settings, strict=True):
        left = max(c.final_loss / c.loss[0] for c in found.curves)
        assert (claim.verdict == "holds") == (left < 0.1)


def test_seeds_that_disagree_are_not_a_condition(tmp_path: Path):
    settings = load(6, tmp_path).settings
    found = [verdicts.warms_up(s, "VGG", settings).verdict for s in settings]
    assert found == ["only in 1 of 3 seeds"] * 2


def test_shape_of_a_step_size():
    count = 40
    rates = [1 + 9 * k / count if k < 20 else 10 - 18 * (k / count - 0.5) for k in range(count)]
    one = replace(curve(None, 0.5, 1.0), loss=[1.0] * count, effective_lr=rates)
    made = verdicts.shape(one)
    assert made.warms_up_then_decays
    assert 0.4 < made.peak < 0.7
    assert verdicts.shape(replace(one, effective_lr=rates[::-1])).rise > 1.2
    assert verdicts.shape(replace(one, effective_lr=sorted(rates, reverse=True))).decays
    assert not verdicts.shape(replace(one, effective_lr=[1.0] * count)).decays
    skipped = verdicts.shape(replace(one, effective_lr=[0.0] * count))
    assert math.isnan(skipped.rise)
    assert not skipped.decays
    assert not skipped.warms_up_then_decays

"""The rule by which one setting is ahead of another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.paper.test_figure2 import made_up

from corridor.paper import verdicts as compare
from corridor.paper.results import Setting
from corridor.train.config import Config

numbers = st.lists(st.one_of(st.none(), st.floats(0, 10)), min_size=1, max_size=5)


@given(numbers, numbers)
def test_the_order_is_antisymmetric_and_overlapping_ranges_tie(mine: list, theirs: list):
    found = compare.order(mine, theirs)
    assert found == -compare.order(theirs, mine)
    if None not in mine + theirs:
        apart = max(mine) < min(theirs) or min(mine) > max(theirs)
        assert (found != 0) == apart


def test_missing_values_count_as_infinite():
    assert compare.order([None, None], [100, None, 120]) == 1
    assert compare.order([None], [None]) == 0
    assert compare.order([5, 6], [None]) == -1


def setting(*losses: float) -> Setting:
    curves = [made_up(None, 0.5, 1.0, final=loss) for loss in losses]
    return Setting(Config(optimizer="sgd", lr=1.0), curves)


def test_before_all_needs_every_run_below_every_run():
    ours = setting(1.0, 2.0)
    assert compare.before_all(ours, [setting(3.0), setting(2.5)], "final_loss")[0] == "holds"
    assert compare.before_all(ours, [setting(3.0), setting(1.5)], "final_loss") == (
        "tie",
        compare.OVERLAP,
    )
    assert compare.before_all(ours, [setting(0.5), setting(1.5)], "final_loss")[0] == (
        "does not hold"
    )

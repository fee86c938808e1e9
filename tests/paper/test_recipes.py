"""What may replace a recipe's own options, and what would spoil its comparison."""

from __future__ import annotations

from typing import Any

import pytest

from corridor.paper import recipes


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("figure2", {"lr": 0.1}, "differ in lr; leave lr out"),
        ("figure2", {"optimizer": "clr"}, "differ in optimizer; leave optimizer out"),
        ("figure3", {"batch_size": 64, "epochs": 1}, "differ in batch_size; leave batch_size out"),
        ("figure2", {"seed": 5}, "give seeds in place of seed"),
    ],
)
def test_an_override_that_the_runs_would_not_show_is_refused(
    name: str, overrides: dict[str, Any], words: str
):
    with pytest.raises(ValueError, match=words) as caught:
        recipes.RECIPES[name]("demo", **overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", recipes.SCALES)
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_what_all_runs_share_may_be_replaced(name: str, scale: str):
    runs = recipes.RECIPES[name](scale, seeds=(0,), model="mlp", width=8, epochs=1)
    assert len(runs) == len(recipes.RECIPES[name](scale, seeds=(0,)))
    assert {(run.config.model, run.config.width, run.config.epochs) for run in runs} == {
        ("mlp", 8, 1)
    }


def test_a_seed_that_is_given_twice_is_run_once():
    assert len(recipes.figure6("demo", seeds=(1, 1))) == len(recipes.figure6("demo", seeds=(1,)))

"""Every layout of the parameters over processes takes the steps of one process."""

from __future__ import annotations

import pytest
import torch
from tests.distributed import layouts
from tests.distributed.layouts import LAYOUTS, Record
from tests.distributed.ranks import Ranks
from tests.relatives import RELATIVES

# Sums of float32 come in another order, 1e-7 a step; six steps carry that on. An estimated bound is
# subtracted from a model that is close to it, which leaves fewer digits.
TOLERANCE = 1e-5
TOLERANCE_OF_ESTIMATES = 1e-4
OPTIONS = {"plain": {}, "weight decay": {"weight_decay": 0.1}}


@pytest.fixture(scope="module")
def runs(ranks: Ranks):
    """The records of all ranks by layout and options, made once."""
    made: dict[tuple[str, str], list[dict[str, Record]]] = {}

    def get(layout: str, options: str = "plain") -> list[dict[str, Record]]:
        key = (layout, options)
        if key not in made:
            where = LAYOUTS[layout]
            made[key] = ranks.run(where.world, layouts.train, where, OPTIONS[options])
        return made[key]

    return get


def largest_error(of: Record, to: Record) -> float:
    """The largest relative difference of step sizes and weights."""
    errors = [
        abs(a - b) / abs(b)
        for x, y in zip(of.steps, to.steps, strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    for name, right in to.weights.items():
        scale = float(right.abs().max())
        errors.append(float((of.weights[name] - right).abs().max()) / scale)
    return max(errors)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", RELATIVES)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one process"])
def test_a_layout_equals_one_process(runs, layout: str, name: str, options: str):
    one = runs("one process", options)[0][name]
    tolerance = TOLERANCE_OF_ESTIMATES if "estimated" in name else TOLERANCE
    for rank in runs(layout, options):
        assert largest_error(rank[name], one) <= tolerance


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one process"])
def test_ranks_agree_to_the_last_bit(runs, layout: str):
    first, *others = runs(layout)
    for other in others:
        for name in RELATIVES:
            assert other[name].steps == first[name].steps
            for key, value in first[name].weights.items():
                assert torch.equal(other[name].weights[key], value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_costs_one_small_all_reduce(runs, layout: str):
    expected = 0 if layout == "one process" else 1
    for record in runs(layout)[0].values():
        assert record.collectives == expected

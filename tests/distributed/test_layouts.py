"""Every layout of the parameters over processes takes the steps of one process."""

from __future__ import annotations

import pytest
import torch
from tests.distributed import layouts
from tests.distributed.layouts import LAYOUTS, STEPS, Record
from tests.distributed.ranks import Ranks

# Sums over 300 numbers in another order, at each of six steps. An estimated bound is subtracted
# from a loss that is close to it, which leaves fewer digits.
TOLERANCE = STEPS * 300 * torch.finfo(torch.float32).eps
TOLERANCE_OF_ESTIMATES = 10 * TOLERANCE
OPTIONS = {"plain": {}, "weight decay": {"weight_decay": 0.1}}
# All relatives reduce by one function. All of them run in one layout with unequal shards,
# and those whose reductions differ run in every layout.
UNEQUAL = "FSDP2, 3"
DIFFERENT = ("CLR", "CLR, momentum", "MoMo, bound estimated", "MoMoAdam")
TESTED = [
    *("DDP, 2", "HSDP, 2 x 2", "tensor parallel, 2"),
    *("DDP x tensor parallel, 2 x 2", "FSDP2 x tensor parallel, 2 x 2"),
]


@pytest.fixture(scope="module")
def runs(ranks: Ranks):
    """The records of all ranks by layout, made once."""
    made: dict[str, list[dict[str, Record]]] = {}

    def get(layout: str) -> list[dict[str, Record]]:
        if layout not in made:
            where = LAYOUTS[layout]
            made[layout] = ranks.run(where.world, layouts.train, where, {}, DIFFERENT)
        return made[layout]

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


def assert_equal_runs(found: list[dict[str, Record]], one: dict[str, Record]) -> None:
    for rank in found:
        for name, right in one.items():
            tolerance = TOLERANCE_OF_ESTIMATES if "estimated" in name else TOLERANCE
            assert largest_error(rank[name], right) <= tolerance, name


@pytest.mark.parametrize("layout", TESTED)
def test_a_layout_equals_one_process(runs, layout: str):
    assert_equal_runs(runs(layout), runs("one process")[0])


def test_every_relative_with_weight_decay_equals_one_process(ranks: Ranks):
    options = OPTIONS["weight decay"]
    one = ranks.run(1, layouts.train, LAYOUTS["one process"], options)[0]
    assert_equal_runs(ranks.run(3, layouts.train, LAYOUTS[UNEQUAL], options), one)


@pytest.mark.parametrize("layout", TESTED)
def test_ranks_agree_to_the_last_bit(runs, layout: str):
    first, *others = runs(layout)
    for other in others:
        for name in DIFFERENT:
            assert other[name].steps == first[name].steps
            for key, value in first[name].weights.items():
                assert torch.equal(other[name].weights[key], value)


@pytest.mark.parametrize("layout", ["one process", *TESTED])
def test_a_step_costs_one_small_all_reduce(runs, layout: str):
    expected = 0 if layout == "one process" else 1
    for record in runs(layout)[0].values():
        assert record.collectives == expected

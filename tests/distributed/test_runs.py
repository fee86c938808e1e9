"""Checkpoints over other numbers of ranks, spoilt numbers, accumulation, ranks on their own."""

from __future__ import annotations

import pytest
import torch
from tests.distributed import jobs
from tests.distributed.layouts import LAYOUTS
from tests.distributed.ranks import Ranks
from tests.distributed.test_layouts import TOLERANCE, largest_error

# No state, an average, a sum in the groups, and an average with a metric.
SAVED = ["CLR", "CLR, momentum", "DecSPS", "MoMoAdam"]
LOADED = ["one process", "FSDP2, 3"]


@pytest.mark.parametrize("name", SAVED)
def test_a_checkpoint_of_two_ranks_continues_on_any_number(ranks: Ranks, tmp_path, name: str):
    ranks.run(2, jobs.save, str(tmp_path), name)
    right = ranks.run(1, jobs.straight, name)[0]
    for layout in LOADED:
        where = LAYOUTS[layout]
        for rank in ranks.run(where.world, jobs.load, str(tmp_path), name, where):
            assert largest_error(rank, right) <= TOLERANCE, layout


@pytest.mark.parametrize(
    ("layout", "where", "name"),
    [
        ("DDP, 2", "loss", "CLR, momentum"),
        ("FSDP2, 2", "loss", "MoMoAdam"),
        ("FSDP2, 4", "gradient", "CLR"),
        ("FSDP2, 4", "gradient", "NGN, momentum"),
    ],
)
def test_what_is_not_finite_on_one_rank_is_skipped_on_all(
    ranks: Ranks, layout: str, where: str, name: str
):
    found = ranks.run(LAYOUTS[layout].world, jobs.spoilt, LAYOUTS[layout], where, name)
    for kept, skipped, weights in found:
        assert kept
        assert skipped == 1
        for key, value in weights.items():
            assert value.isfinite().all()
            assert torch.equal(value, found[0][2][key])


@pytest.mark.parametrize("layout", ["DDP, 2", "FSDP2 x tensor parallel, 2 x 2"])
def test_accumulated_losses_are_those_of_one_process(ranks: Ranks, layout: str):
    right = ranks.run(1, jobs.accumulated, LAYOUTS["one process"])[0]
    for rank in ranks.run(LAYOUTS[layout].world, jobs.accumulated, LAYOUTS[layout]):
        assert largest_error(rank, right) <= TOLERANCE


def test_ranks_with_networks_of_their_own_do_not_share_a_loss(ranks: Ranks):
    together = ranks.run(2, jobs.alone)
    for index, sizes in enumerate(together):
        assert sizes == ranks.run(1, jobs.alone_outside_of_a_group, index)[0]
    assert together[0] != together[1]


def test_a_scaler_overflows_on_all_ranks_alike(ranks: Ranks):
    first, *others = ranks.run(2, jobs.scaled, LAYOUTS["FSDP2, 2"])
    assert all(other == first for other in others)
    assert first[0] == (0.0, 1, 2.0**15)
    assert first[-1][0] > 0.0


def test_dal_averages_its_ratio_over_ranks(ranks: Ranks):
    """Each rank measures its own batch; the step is that of the mean ratio, the same on both."""
    (sizes, own, weights), (others, other, far) = ranks.run(
        2, jobs.drift_adjusted, LAYOUTS["DDP, 2"]
    )
    assert sizes == others
    assert own != other
    assert sizes[0] == pytest.approx(min(5.0, 2.0 / (0.5 * (own + other))), rel=1e-6)
    assert all(torch.equal(weights[key], far[key]) for key in weights)


def test_dal_refuses_sharded_parameters_in_one_line(ranks: Ranks):
    for message in ranks.run(2, jobs.refused_by_dal, LAYOUTS["FSDP2, 2"]):
        assert "params must be whole tensors" in message
        assert "\n" not in message

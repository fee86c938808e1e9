"""A run shared by several processes is the run of one."""

from __future__ import annotations

import pytest
import torch
from tests.distributed import trained
from tests.distributed.ranks import Ranks
from tests.distributed.trained import HERE, final, largest_difference

# Sums over 22,000 parameters in another order at each of 11 steps: the error of such a sum grows as
# the root of its length. The factor leaves room for the steps that carry it on.
TOLERANCE = 5 * 11 * 22_000**0.5 * torch.finfo(torch.float32).eps
SMOOTH, NORMED = f"{HERE}:smooth", f"{HERE}:normed"
# 1437 images: with drop_last=False the last batch has 29, which ranks share unevenly.
OPTIONS = {
    "clr, probed": {"model": SMOOTH, "probe": 3},
    "clr, curvature": {"model": f"{HERE}:few", "probe": 5, "probe_curvature": True},
    "clr with momentum, augmented": {"model": SMOOTH, "momentum": 0.9, "augment": True},
    "sgd, last batch uneven": {
        "model": SMOOTH,
        "optimizer": "sgd",
        "lr": 0.1,
        "drop_last": False,
        "momentum": 0.9,
        "schedule": "cosine",
    },
    "adamw, micro-batches": {"model": SMOOTH, "optimizer": "adamw", "accumulate": 2},
    "momo-adam": {"model": SMOOTH, "optimizer": "momo-adam"},
    "batch norm over all, probed": {
        "model": NORMED,
        "batch_norm": "synchronized",
        "drop_last": False,
        "probe": 6,
    },
}
# Each option under both layouts, if both can run it, and on two and three processes by turns.
PAIRS = [
    ("clr, probed", "ddp", 2),
    ("clr, probed", "fsdp", 3),
    ("clr, curvature", "ddp", 3),
    ("clr with momentum, augmented", "fsdp", 3),
    ("sgd, last batch uneven", "ddp", 3),
    ("sgd, last batch uneven", "fsdp", 2),
    ("adamw, micro-batches", "ddp", 2),
    ("adamw, micro-batches", "fsdp", 3),
    ("momo-adam", "fsdp", 2),
    ("batch norm over all, probed", "ddp", 3),
    ("batch norm over all, probed", "fsdp", 2),
]


def config(**options):
    return {"epochs": 1, "batch_size": 120, **options}


@pytest.fixture(scope="module")
def alone(ranks: Ranks, tmp_path_factory):
    """The folder of a run in one process, made once."""
    made = {}

    def get(options):
        key = str(options)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("alone")
            ranks.run(1, trained.run, options, str(made[key]))
        return made[key]

    return get


@pytest.mark.parametrize(("name", "kind", "world"), PAIRS)
def test_an_epoch_over_ranks_is_that_of_one_process(
    ranks: Ranks, alone, tmp_path, name: str, kind: str, world: int
):
    options = config(**OPTIONS[name])
    if kind == "fsdp" and "batch norm" in name:
        options.pop("probe")  # ReLU has kinks, across which central differences see something else
    one = alone(options)
    ranks.run(world, trained.run, {**options, "parallel": kind}, str(tmp_path))
    worst = largest_difference(one, tmp_path)
    assert worst[0] <= TOLERANCE, worst
    right, found = final(one), final(tmp_path)
    for key, value in right.items():
        assert torch.allclose(found[key], value, rtol=1e-2, atol=1e-3), key


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_compiled_ranks_come_to_nearly_the_same(ranks: Ranks, tmp_path, kind: str):
    """Blocks that differ in shape share their code, and batch norm sums over ranks in between."""
    options = config(model="resnet8", batch_norm="synchronized", steps=3)
    ranks.run(1, trained.run, options, str(tmp_path / "one"))
    shared = {**options, "parallel": kind, "compile": True}
    ranks.run(2, trained.run, shared, str(tmp_path / "two"))
    worst = largest_difference(tmp_path / "one", tmp_path / "two")
    assert worst[0] <= 1e-3, worst


def test_local_batch_norm_is_that_of_micro_batches(ranks: Ranks, tmp_path):
    """Each rank normalises its own part, as one process does that accumulates over the parts."""
    options = config(model=NORMED)
    ranks.run(1, trained.run, {**options, "accumulate": 3}, str(tmp_path / "one"))
    ranks.run(3, trained.run, options, str(tmp_path / "three"))
    one, three = (trained.numbers(tmp_path / name) for name in ("one", "three"))
    for a, b in zip(one[:-1], three[:-1], strict=True):  # running statistics are the ranks' mean
        for key in ("loss", "effective_lr", "grad_norm"):
            assert b[key] == pytest.approx(a[key], rel=TOLERANCE)
    assert one[-1]["test_loss"] != pytest.approx(three[-1]["test_loss"], rel=TOLERANCE)


def test_running_statistics_of_local_batch_norm_are_the_means_over_ranks(ranks: Ranks):
    first, *others = ranks.run(3, trained.statistics, config(model=NORMED))
    for other in others:
        assert all(torch.equal(other[key], value) for key, value in first.items())
    alone = ranks.run(1, trained.statistics, config(model=NORMED))[0]
    mean = first["1.running_mean"] - alone["1.running_mean"]
    assert float(mean.abs().max()) < 0.1 * float(alone["1.running_mean"].abs().max())


@pytest.mark.parametrize(
    ("saved", "resumed"), [("ddp, 2", "fsdp, 3"), ("fsdp, 2", "ddp, 1"), ("fsdp, 3", "fsdp, 2")]
)
def test_a_run_goes_on_with_another_number_of_processes(
    ranks: Ranks, alone, tmp_path, saved: str, resumed: str
):
    options = config(model=SMOOTH, momentum=0.9, epochs=2)
    for layout, epochs in ((saved, 1), (resumed, 2)):
        kind, world = layout.split(", ")
        part = {**options, "epochs": epochs, "parallel": kind}
        ranks.run(int(world), trained.run, part, str(tmp_path), True)
    assert largest_difference(alone(options), tmp_path)[0] <= TOLERANCE


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        (
            [{"drift": 0.1, "parallel": "fsdp"}],
            "parallel must be ddp with drift, got fsdp",
        ),
        ([{"batch_size": 121}], "batch_size must be divisible by 2 processes, got 121"),
        ([{"batch_size": 122, "accumulate": 2}], "2 processes x 2 micro-batches, got 122"),
        (
            [{"batch_size": 1436, "drop_last": False}],
            "last batch must have an image for each of 2 processes, got 1 images",
        ),
        ([{"lr": 0.5}, {"lr": 0.25}], "rank 0 has --lr 0.5 and rank 1 has 0.25"),
        ([{}, {"train_limit": 500}], "rank 0 has --train-limit None and rank 1 has 500"),
        ([{"model": "nothing"}], "got 'nothing'"),
        ([{"probe": 2, "probe_curvature": True, "parallel": "fsdp"}], "use parallel ddp"),
    ],
)
def test_wrong_input_is_one_line_from_one_rank(ranks: Ranks, tmp_path, options, needle: str):
    given = [{**config(model=SMOOTH), **some} for some in options]
    found = ranks.run(2, trained.run_and_tell, given, str(tmp_path / "run"))
    told = [text for kind, text in found if kind == "ValueError"]
    assert len(told) == 1
    assert needle in told[0]
    assert "\n" not in told[0]
    assert {kind for kind, _ in found} == {"ValueError", "ElsewhereError"}


def test_a_group_that_cannot_carry_what_is_said_is_one_line_from_one_rank(ranks: Ranks, tmp_path):
    store, out = str(tmp_path / "store"), str(tmp_path / "run")
    found = ranks.run(2, trained.in_a_group_for_gpus, config(model=SMOOTH), store, out)
    kind, text = found[0]
    assert kind == "ValueError"
    assert "must have a backend for the CPU, got cuda:gloo; initialize it with" in text
    assert "\n" not in text
    assert found[1][0] == "ElsewhereError"


def test_a_folder_that_holds_a_run_is_said_once(ranks: Ranks, tmp_path):
    options = config(model=SMOOTH, steps=1)
    ranks.run(2, trained.run, options, str(tmp_path))
    found = ranks.run(2, trained.run_and_tell, [options], str(tmp_path))
    assert found[0][0] == "ValueError"
    assert "continue it with --resume" in found[0][1]
    assert found[1][0] == "ElsewhereError"


@pytest.mark.parametrize(
    ("fault", "needle"),
    [
        ("fewer", "rank 0 has training images 900 and rank 1 has 700"),
        ("missing", "no digits here"),
    ],
)
def test_other_data_on_one_rank_is_one_line(ranks: Ranks, tmp_path, fault: str, needle: str):
    options = config(model=SMOOTH, train_limit=900)
    found = ranks.run(2, trained.with_other_data, options, str(tmp_path), fault)
    assert found[fault == "missing"][1].startswith(needle)
    assert found[fault != "missing"][0] == "ElsewhereError"

"""Checkpoints that several processes write together."""

from __future__ import annotations

import pytest
import torch
from tests.distributed import trained
from tests.distributed.ranks import Ranks
from tests.distributed.trained import HERE, final, largest_difference

from corridor import CLR
from corridor.cli import main
from corridor.train.folder import checkpoint

OPTIONS = {"model": f"{HERE}:smooth", "momentum": 0.9, "batch_size": 240, "epochs": 3}


@pytest.fixture
def run(ranks: Ranks, tmp_path):
    """A finished FSDP run of three epochs on two ranks, the last two checkpoints kept."""
    ranks.run(2, trained.run, {**OPTIONS, "parallel": "fsdp"}, str(tmp_path))
    return tmp_path


def test_a_run_goes_on_from_the_one_before_a_damaged_one(ranks: Ranks, run):
    right = final(run)
    file = checkpoint.paths(run)[-1] / "__1_0.distcp"
    file.write_bytes(file.read_bytes()[:-50])
    (run / "summary.json").unlink()
    (run / "checkpoints" / ".step-000000020.tmp").mkdir()  # left by a process killed while writing
    ranks.run(3, trained.run, OPTIONS, str(run), True)
    found = final(run)
    for key, value in right.items():
        assert torch.allclose(found[key], value, rtol=1e-2, atol=1e-3), key
    assert not list((run / "checkpoints").glob(".*"))


def test_what_is_saved_is_what_was_there_when_it_was_asked_for(ranks: Ranks, tmp_path):
    """The training goes on while it is written."""
    for ones in ranks.run(2, trained.saved_then_changed, str(tmp_path)):
        assert ones
    saved = checkpoint.load(tmp_path)
    assert saved is not None
    assert torch.equal(saved.states["whole"], torch.ones(50_000))
    assert torch.equal(saved.states["sharded"], torch.ones(101))


def test_its_messages_wait_no_longer_than_those_of_the_run(ranks: Ranks, tmp_path):
    told = ranks.run(2, trained.alone_with_a_checkpoint, str(tmp_path), 2.0)[0]
    assert "timed out waiting 2000ms" in told.lower()


def test_dropout_goes_on_as_it_would_have(ranks: Ranks, tmp_path):
    """Each rank has random numbers of its own, and gets them back."""
    noisy = {**OPTIONS, "model": "tests.train.small_networks:noisy"}
    ranks.run(2, trained.run, noisy, str(tmp_path / "whole"))
    for epochs in (1, 3):
        ranks.run(2, trained.run, {**noisy, "epochs": epochs}, str(tmp_path / "parts"), True)
    assert largest_difference(tmp_path / "whole", tmp_path / "parts")[0] == 0.0


@pytest.mark.parametrize("world", [1, 2])
def test_a_full_disk_is_one_line_from_one_rank(ranks: Ranks, tmp_path, world: int):
    found = ranks.run(world, trained.run_on_a_full_disk, {**OPTIONS, "parallel": "fsdp"}, tmp_path)
    told = [text for kind, text in found if kind == "OSError"]
    assert len(told) == 1
    assert "File too large" in told[0]
    assert told[0].endswith("; make room, and go on with --resume")
    assert "\n" not in told[0]
    assert [kind for kind, _ in found].count("ElsewhereError") == world - 1
    assert [p.name for p in checkpoint.paths(tmp_path)] == []


@pytest.mark.parametrize("how", ["fsdp", "one process"])
def test_export_writes_one_plain_file(ranks: Ranks, tmp_path, capsys, how: str):
    world = 2 if how == "fsdp" else 1
    ranks.run(world, trained.run, {**OPTIONS, "parallel": "fsdp", "epochs": 1}, str(tmp_path))
    target = tmp_path / "out.pt"
    assert main(["export", str(tmp_path), str(target)]) == 0
    content = torch.load(target, weights_only=True)
    assert {type(v) for v in content["model"].values()} == {torch.Tensor}
    model = trained.smooth(10)
    model.load_state_dict(content["model"])
    opt = CLR(model.parameters(), momentum=0.9)
    opt.load_state_dict(content["optimizer"])
    assert (content["step"], content["epoch"], content["config"]["momentum"]) == (5, 1, 0.9)
    assert main(["export", str(tmp_path), str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"corridor: cannot write {tmp_path} (Is a directory)\n"
    assert main(["export", str(tmp_path / "nothing"), str(target)]) == 2
    assert "no run in" in capsys.readouterr().err

import pytest
import torch

from corridor.train.folder import checkpoint
from corridor.train.folder.checkpoint import Position


def save(out, step, keep=2):
    return checkpoint.save(out, Position(step=step), {"model": {"w": torch.ones(3)}}, keep=keep)


def test_what_was_saved_is_loaded(tmp_path):
    position = Position(step=7, epoch=1, batch=2, images=90, seconds=1.5, best_accuracy=0.5)
    state = torch.get_rng_state()
    checkpoint.save(tmp_path, position, {"model": {"w": torch.arange(3.0)}}, keep=1)
    torch.rand(5)
    content = checkpoint.load(tmp_path)
    assert content is not None
    assert content["position"] == position
    assert torch.equal(content["states"]["model"]["w"], torch.arange(3.0))
    checkpoint.restore_random(content["random"])
    assert torch.equal(torch.get_rng_state(), state)


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 10):
        save(tmp_path, step)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000003.pt", "step-000000010.pt"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "foreign"])
def test_a_damaged_newest_one_is_passed_over_with_a_warning(tmp_path, damage):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = newest.read_bytes()
    if damage == "foreign":
        torch.save({"something": 1}, newest)
    else:
        newest.write_bytes(
            {"cut": content[: len(content) // 2], "garbage": b"x" * 99, "empty": b""}[damage]
        )
    with pytest.warns(UserWarning, match="step-000000002.pt is damaged"):
        loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded["position"].step == 1


def test_damaged_ones_ahead_are_gone_after_the_next_save(tmp_path):
    save(tmp_path, 5)
    save(tmp_path, 9).write_bytes(b"")
    save(tmp_path, 6)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000005.pt", "step-000000006.pt"]


def test_when_all_are_damaged_it_says_so(tmp_path):
    save(tmp_path, 1).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="all checkpoints"),
    ):
        checkpoint.load(tmp_path)


def test_loading_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = save(tmp_path, 1)
    torch.save(Evil(), path)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="damaged"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_without_checkpoints_there_is_nothing_to_load(tmp_path):
    assert checkpoint.load(tmp_path) is None


def test_a_checkpoint_is_read_once(tmp_path, monkeypatch):
    paths = [save(tmp_path, step) for step in (1, 2)]
    load, read = torch.load, []
    monkeypatch.setattr(torch, "load", lambda path, **how: read.append(path) or load(path, **how))
    assert checkpoint.load(tmp_path) is not None
    assert read == paths[1:]


def test_a_disk_that_cannot_be_read_is_not_taken_for_damage(tmp_path, monkeypatch):
    for step in (1, 2):
        checkpoint.save(tmp_path, Position(step=step), {}, keep=2)

    def failing(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(torch, "load", failing)
    with pytest.raises(OSError, match=r"cannot read .*step-000000002.pt \(Input/output error\)"):
        checkpoint.load(tmp_path)

import json
import pickle
import shutil
from collections import OrderedDict, deque
from pathlib import Path

import numpy
import pytest
import torch

from corridor.train.folder import checkpoint, storage
from corridor.train.folder.checkpoint import Position, Saver
from corridor.train.processes.team import Team


def save(out, step, states=None, keep=2):
    states = states or {"model": {"w": torch.ones(3)}}
    Saver(out, Team(), keep).save(Position(step=step), states)
    return out / "checkpoints" / f"step-{step:09d}"


def names(out):
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def damage(path, how):
    file = path / ("manifest.json" if how == "no manifest" else "__0_0.distcp")
    content = bytearray(file.read_bytes())
    if how == "one bit":
        content[len(content) // 2] ^= 1
    elif how == "half a file":
        content = content[: len(content) // 2]
    else:
        content = bytearray(b"{")
    file.write_bytes(content)
    if how == "no file":
        (path / "plain.pt").unlink()


def test_what_was_saved_is_loaded(tmp_path):
    position = Position(step=7, epoch=1, batch=2, images=90, seconds=1.5, skips_in_row=3)
    states = {
        "model": {"w": torch.arange(3.0), "n": torch.tensor(4)},
        "optimizer": {
            "state": {0: {"average": torch.ones(2, 3, dtype=torch.bfloat16), "step": 3}},
            "param_groups": [{"lr": 0.5, "effective_lr": torch.tensor(0.25), "params": [0]}],
        },
        "scheduler": {"lambdas": [None], "betas": (0.9, 0.99), "nothing": {}},
    }
    generator = torch.get_rng_state()
    Saver(tmp_path, Team(), keep=1).save(position, states)
    torch.rand(5)
    saved = checkpoint.load(tmp_path)
    assert saved is not None
    assert saved.position == position
    assert repr(saved.states) == repr(states)
    checkpoint.restore_random(saved.random)
    assert torch.equal(torch.get_rng_state(), generator)


def test_only_the_newest_are_kept_and_nothing_is_left_aside(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    (tmp_path / "checkpoints" / ".step-000000020.tmp").mkdir()  # of a process that was killed
    path = save(tmp_path, 10)
    assert names(tmp_path) == ["step-000000003", "step-000000010"]
    files = sorted(file.name for file in path.iterdir())
    assert files == [".metadata", "__0_0.distcp", "manifest.json", "plain.pt"]


def test_one_bit_flipped_anywhere_is_noticed(tmp_path):
    save(tmp_path, 1)
    path = save(tmp_path, 2, {"model": {"w": torch.ones(3)}, "note": ["a", 1]})
    files = sorted(file for file in path.iterdir())
    assert len(files) == 4
    for file in files:
        right = file.read_bytes()
        # Both ends of each file, and places between; all of the manifest's.
        places = range(len(right)) if file.name == "manifest.json" else range(0, len(right), 97)
        for place in places:
            wrong = bytearray(right)
            wrong[place] ^= 1 << place % 8
            file.write_bytes(wrong)
            if file.name == "manifest.json" and right[place : place + 1].isspace():
                continue  # white space can change without harm
            with pytest.raises(ValueError, match="is damaged"):
                checkpoint.read(path)
        file.write_bytes(right)
    assert checkpoint.read(path).position.step == 2


@pytest.mark.parametrize("content", ["{}", '{"plain.pt": [1, 2]}', '{"plain.pt": null}', "[]"])
def test_a_manifest_that_names_no_file_vouches_for_nothing(tmp_path, content):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    (path / "manifest.json").write_text(content)
    with pytest.warns(UserWarning, match=r"step-000000002 is damaged"):
        saved = checkpoint.load(tmp_path)
    assert saved is not None
    assert saved.position.step == 1


def test_a_checkpoint_that_a_training_run_removes_is_not_damaged(tmp_path, monkeypatch):
    save(tmp_path, 1, keep=1)
    verify = storage.verify

    def late(path):
        if path.name.endswith("1"):
            save(tmp_path, 2, keep=1)
        verify(path)

    monkeypatch.setattr(storage, "verify", late)
    saved = checkpoint.load(tmp_path)
    assert saved is not None
    assert saved.position.step == 2


@pytest.mark.parametrize("how", ["half a file", "one bit", "no file", "no manifest"])
def test_a_damaged_newest_one_is_passed_over_with_a_warning(tmp_path, how):
    save(tmp_path, 1)
    damage(save(tmp_path, 2), how)
    with pytest.warns(UserWarning, match=r"step-000000002 is damaged .*taking the one before"):
        saved = checkpoint.load(tmp_path)
    assert saved is not None
    assert saved.position.step == 1


def test_damaged_ones_ahead_are_gone_after_the_next_save(tmp_path):
    save(tmp_path, 5)
    damage(save(tmp_path, 9), "one bit")
    save(tmp_path, 6)
    assert names(tmp_path) == ["step-000000005", "step-000000006"]


def test_when_all_are_damaged_it_says_so(tmp_path):
    damage(save(tmp_path, 1), "one bit")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="all checkpoints"),
    ):
        checkpoint.load(tmp_path)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", [".metadata", "plain.pt"])
def test_loading_runs_no_code_even_if_the_sums_are_right(tmp_path, name):
    path, trap = save(tmp_path, 1), tmp_path / "ran"
    if name == ".metadata":
        (path / name).write_bytes(pickle.dumps(Evil(trap)))
    else:
        torch.save(Evil(trap), path / name)
    sums = json.loads((path / "manifest.json").read_text())
    sums[name] = storage._checksum(path / name)
    (path / "manifest.json").write_text(json.dumps(sums))
    storage.verify(path)
    with pytest.raises(ValueError, match=r"is damaged|and plain values, got .*open; give a new"):
        checkpoint.load(tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (numpy.float64(2.0), "numpy.float64"),
        (deque([1]), "collections.deque"),
        (Path("a"), "pathlib.PosixPath"),
        ({numpy.int64(1): 2}, "builtins.dict"),
        (Evil("a"), "tests.train.folder.test_checkpoint.Evil"),
        (Position(), "corridor.train.folder.checkpoint.Position"),
    ],
)
def test_values_that_cannot_be_loaded_are_not_written(tmp_path, value, kind):
    states = {"model": {"own": {"a": [1, value]}}}
    said = f"states/model/own/a/1 must be a tensor or a plain Python value, got {kind}; "
    with pytest.raises(ValueError, match=said) as caught:
        save(tmp_path, 1, states)
    assert "\n" not in str(caught.value)
    assert checkpoint.load(tmp_path) is None


def test_all_values_that_are_written_are_loaded(tmp_path):
    values = [None, True, 1, 1.5, 1j, "a", b"a", (1, 2), {1: {"b": 2}}, {3, 4}, torch.float32]
    values += [torch.Size([2]), torch.device("cpu"), OrderedDict(a=1), {}, [], ()]
    save(tmp_path, 1, {"model": {"own": values}})
    assert checkpoint.load(tmp_path).states["model"]["own"] == values


@pytest.mark.parametrize("entry", [Evil, "os.system", torch.nn.Linear])
def test_an_index_may_name_the_records_of_dcp_only(tmp_path, entry):
    path = save(tmp_path, 1)
    content = pickle.dumps({"state": entry}) if entry != "os.system" else b"cos\nsystem\n."
    (path / ".metadata").write_bytes(content)
    with pytest.raises(ValueError, match="is not allowed in an index"):
        storage.read(path, {}, together=False)


def test_without_checkpoints_there_is_nothing_to_load(tmp_path):
    assert checkpoint.load(tmp_path) is None


def test_files_of_an_older_version_are_one_clear_line(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save({"position": {}}, folder / "step-000000003.pt")
    with pytest.raises(ValueError, match=r"must be of corridor 0\.2\.0, got files of 0\.1\.0 in "):
        checkpoint.load(tmp_path)


def test_a_moved_run_is_read_where_it_is(tmp_path):
    (tmp_path / "a").mkdir()
    save(tmp_path / "a", 1)
    shutil.move(tmp_path / "a", tmp_path / "b")
    saved = checkpoint.load(tmp_path / "b")
    assert saved is not None
    assert torch.equal(saved.states["model"]["w"], torch.ones(3))


def test_a_disk_that_cannot_be_read_is_not_taken_for_damage(tmp_path, monkeypatch):
    save(tmp_path, 1)
    save(tmp_path, 2)

    def failing(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(storage, "_checksum", failing)
    with pytest.raises(OSError, match=r"cannot read .*step-000000002 \(Input/output error\)"):
        checkpoint.load(tmp_path)

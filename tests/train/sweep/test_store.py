import shutil

import pytest
from fsspec.implementations.local import LocalFileSystem

from corridor.train.folder.files import dumps
from corridor.train.folder.record import read_run
from corridor.train.loop import train
from corridor.train.sweep.jobs import Event
from corridor.train.sweep.runs import Run, sweep
from corridor.train.sweep.store import Kept, borrowed, fetch, replace
from corridor.train.sweep.workers import Workers


def losses(folder):
    return [line["loss"] for line in read_run(folder).steps]


def contents(folder):
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_a_sweep_through_a_store_ends_in_the_same_folder(tmp_path, small):
    url = f"file://{tmp_path}/store"
    runs = [
        Run("good", small()),
        Run("bad", small(model="tests.train.small_networks:broken")),
    ]
    folders = sweep(runs, tmp_path / "out", processes=Workers(processes=1, store=url))
    assert contents(folders[0]) == contents(tmp_path / "store" / "good")
    assert read_run(folders[0]).summary["status"] == "finished"
    assert "cannot be built" in read_run(folders[1]).summary["message"]
    train(small(), tmp_path / "direct", progress=False)
    assert losses(folders[0]) == pytest.approx(losses(tmp_path / "direct"), rel=1e-5)


def test_a_stored_run_of_another_config_fails_and_is_left_alone(tmp_path, small):
    store, out = tmp_path / "store", tmp_path / "out"
    train(small(seed=1), store / "a", progress=False)
    before = contents(store)
    runs = [Run("a", small()), Run("b", small())]
    folders = sweep(runs, out, processes=Workers(processes=1, store=f"file://{store}"))
    assert [read_run(folder).summary["status"] for folder in folders] == ["failed", "finished"]
    message = read_run(folders[0]).summary["message"]
    assert f"file://{store}/a holds a run with another config (seed 1 -> 0)" in message
    assert read_run(folders[0]).config == small()  # so that the next sweep may go on in it
    assert {k: v for k, v in contents(store).items() if k.parts[0] == "a"} == before
    sweep(runs, out, processes=Workers(processes=1, store=f"file://{tmp_path}/new"))
    assert read_run(folders[0]).summary["status"] == "finished"


def test_a_longer_stored_run_does_not_take_the_place_of_a_shorter_one(tmp_path, small):
    train(small(epochs=3), tmp_path / "store", progress=False)
    with pytest.raises(ValueError, match=r"store holds a run with another config .*epochs"):
        replace(tmp_path / "out", f"file://{tmp_path}/store", small())
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


def test_a_stored_run_takes_the_place_of_all_that_was_there(tmp_path, small):
    train(small(), tmp_path / "store", progress=False)
    train(small(checkpoint_every=4), tmp_path / "out", progress=False)
    replace(tmp_path / "out", f"file://{tmp_path}/store", small())
    assert contents(tmp_path / "out") == contents(tmp_path / "store")


def test_a_stored_run_does_not_take_the_place_of_one_that_is_further(tmp_path, small):
    url = f"file://{tmp_path}/store"
    train(small(steps=3), tmp_path / "begun", progress=False)
    Kept(tmp_path / "begun", url).push()
    (tmp_path / "store" / "config.json").write_text(dumps(small().to_dict()))
    train(small(), tmp_path / "out", progress=False)
    before = contents(tmp_path / "out")
    replace(tmp_path / "out", url, small())
    assert contents(tmp_path / "out") == before


def test_a_run_that_cannot_be_fetched_fails_and_the_others_go_on(tmp_path, small, monkeypatch):
    class OwnError(Exception):
        """As file systems have them."""

    def get_file(self, path, target):
        if "/store/a/" in path:
            raise OwnError("no such\nbucket")
        shutil.copy(path, target)

    runs = [Run("a", small()), Run("b", small())]
    workers = Workers(processes=1, store=f"file://{tmp_path}/store")
    with monkeypatch.context() as patch:  # here, not in the workers
        patch.setattr(LocalFileSystem, "get_file", get_file)
        folders = sweep(runs, tmp_path / "out", processes=workers)
    assert [read_run(folder).summary["status"] for folder in folders] == ["failed", "finished"]
    right = f"cannot fetch file://{tmp_path}/store/a (no such bucket)"
    assert read_run(folders[0]).summary["message"] == right
    sweep(runs, tmp_path / "out", processes=workers)
    assert contents(folders[0]) == contents(tmp_path / "store" / "a")


def test_a_store_of_this_machine_alone_has_nothing_from_other_hosts(tmp_path, small, monkeypatch):
    def engine(jobs):
        yield from (Event("done", index, None) for index in range(len(jobs)))

    monkeypatch.setattr(Workers, "start", lambda self: engine)
    url = f"file://{tmp_path}/store"
    (folder,) = sweep([Run("a", small())], tmp_path / "out", processes=Workers(store=url))
    right = f"left no summary at {url}/a; use a --store that all hosts reach"
    assert read_run(folder).summary["message"] == right


def test_a_stored_run_goes_on_where_it_was(tmp_path, small):
    train(small(steps=7, checkpoint_every=2), tmp_path / "whole", progress=False)
    train(small(steps=4, checkpoint_every=2), tmp_path / "begun", progress=False)
    url = f"file://{tmp_path}/store"
    Kept(tmp_path / "begun", url).push()
    with borrowed(url, small(steps=7, checkpoint_every=2)) as kept:
        assert contents(kept.folder) == contents(tmp_path / "begun")
        train(small(steps=7, checkpoint_every=2), kept.folder, resume=True, progress=False)
    fetch(url, tmp_path / "ended")
    assert losses(tmp_path / "ended") == losses(tmp_path / "whole")
    steps = sorted(path.name for path in (tmp_path / "ended" / "checkpoints").iterdir())
    assert steps == ["step-000000006.pt", "step-000000007.pt"]  # older ones are gone there, too


def test_what_was_cut_off_leaves_no_checkpoint_ahead_of_its_metrics(tmp_path, small):
    train(small(), tmp_path / "run", progress=False)
    kept = Kept(tmp_path / "run", f"file://{tmp_path}/store")
    copied, put = [], kept._fs.put_file

    def spied(source, target):
        copied.append(target.removesuffix(".part").rpartition("/store/")[2])
        put(source, target)

    kept._fs.put_file = spied
    kept.push()
    assert copied.index("metrics.jsonl") < copied.index("checkpoints/step-000000005.pt")
    assert copied[-1] == "summary.json"
    assert not list((tmp_path / "store").rglob("*.part"))


def test_an_empty_store_gives_an_empty_folder(tmp_path):
    fetch(f"file://{tmp_path}/nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_worker_that_comes_back_late_leaves_a_run_that_is_further(tmp_path, small):
    url = f"file://{tmp_path}/store"
    train(small(steps=4), tmp_path / "late", progress=False)
    late = Kept(tmp_path / "late", url)
    late.push()
    with borrowed(url, small(steps=8)) as other:
        train(small(steps=8), other.folder, resume=True, progress=False)
    further = contents(tmp_path / "store")
    with pytest.raises(OSError, match="is further than this run; another worker trains it"):
        late.push()
    assert contents(tmp_path / "store") == further
    assert len(losses(tmp_path / "store")) == 8


def test_a_run_that_is_trained_is_copied_now_and_then(tmp_path, small, monkeypatch):
    folder, store = tmp_path / "run", tmp_path / "store"
    train(small(), folder, progress=False)
    kept = Kept(folder, f"file://{store}")
    kept.push_now_and_then()
    assert not store.exists()
    monkeypatch.setattr("corridor.train.sweep.store.PUSH_SECONDS", 0.0)
    kept.push_now_and_then()
    assert contents(store) == contents(folder)

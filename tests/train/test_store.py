import pytest

from corridor.train.loop import train
from corridor.train.record import read_run
from corridor.train.store import Kept, borrowed, fetch
from corridor.train.sweep import Run, sweep
from corridor.train.workers import Workers


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


def test_a_stored_run_goes_on_where_it_was(tmp_path, small):
    train(small(steps=7, checkpoint_every=2), tmp_path / "whole", progress=False)
    train(small(steps=4, checkpoint_every=2), tmp_path / "begun", progress=False)
    url = f"file://{tmp_path}/store"
    Kept(tmp_path / "begun", url).push()
    with borrowed(url) as kept:
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

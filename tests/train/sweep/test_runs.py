import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from tests.train.processes import environment

import corridor
from corridor.train.config import Config
from corridor.train.folder.files import locked
from corridor.train.folder.record import read_run, read_summary, write_failure
from corridor.train.loop import train
from corridor.train.sweep.runs import Run, Workers, sweep

SERIAL = Workers(pool="serial")


def contents(out):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in out.rglob("*.*")}


def losses(folder):
    return [line["loss"] for line in read_run(folder).steps]


def test_a_sweep_from_beginning_to_end(tmp_path, small, dies_once, capfd, monkeypatch):
    # A launcher has started the sweep; its runs must join no group.
    group = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in group.items():
        monkeypatch.setenv(name, value)
    noisy = {"model": "tests.train.small_networks:noisy", "momentum": 0.9}
    runs = [
        Run("clr", small(**noisy)),
        Run("diverges", small(model="mlp", optimizer="sgd", lr=1e6, epochs=200)),
        Run("broken", small(model="tests.train.small_networks:broken")),
        Run("killed-once", small(**dies_once)),
    ]
    folders = sweep(runs, tmp_path / "out", processes=2)
    monkeypatch.undo()
    assert folders == [tmp_path / "out" / run.name for run in runs]
    states = [summary and summary.status for summary in map(read_summary, folders)]
    assert states == ["finished", "diverged", "failed", "finished"]
    assert "RuntimeError: this network cannot be built" in read_run(folders[2]).summary["message"]
    assert read_run(folders[2]).config == runs[2].config
    said = capfd.readouterr().err
    assert "[4/4]" in said
    assert "broken: failed: ValueError: model" in said

    # The numbers are those of one process with one thread, also after a kill.
    alone = [runs[0], Run("whole", small())]
    direct = sweep(alone, tmp_path / "direct", processes=SERIAL, progress=False)
    assert losses(folders[0]) == losses(direct[0])
    assert losses(folders[3]) == losses(direct[1])

    # What has ended is left alone, what failed is tried again.
    ended = [folders[0], folders[1], folders[3]]
    before, failed = [contents(folder) for folder in ended], contents(folders[2])
    sweep(runs, tmp_path / "out", processes=SERIAL, progress=False)
    assert [contents(folder) for folder in ended] == before
    assert contents(folders[2]) != failed
    assert capfd.readouterr().err == ""


def test_a_run_that_was_cut_short_goes_on(tmp_path, small):
    noisy = small(model="tests.train.small_networks:noisy", momentum=0.9)
    sweep([Run("whole", noisy)], tmp_path, processes=SERIAL, progress=False)
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    # As a kill after the checkpoint of step 5 leaves it.
    (cut / "summary.json").unlink()
    shutil.rmtree(cut / "checkpoints" / "step-000000010")
    text = (cut / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_bytes(b"".join(text[:8]) + b'{"step": 8, "lo')
    first = text[0]
    sweep([Run("cut", noisy)], tmp_path, processes=SERIAL, progress=False)
    assert losses(cut) == losses(tmp_path / "whole")
    assert (cut / "metrics.jsonl").read_bytes().startswith(first)  # not begun anew: same seconds


def elsewhere(disk):
    """A runner whose workers write to a disk of their own."""

    def runner(jobs, *, report):
        for index, job in enumerate(jobs):
            train(job.config, disk / job.folder.name, resume=True, progress=False)
            yield index, ""

    return runner


def test_missing_data_are_found_before_the_first_run(tmp_path, small):
    runs = [Run("a", small()), Run("b", small(data=f"imagefolder:{tmp_path / 'absent'}"))]
    for workers in (SERIAL, Workers(processes=1)):
        with pytest.raises(FileNotFoundError, match=r"absent must have train/CLASS"):
            sweep(runs, tmp_path / "out", processes=workers, progress=False)
        assert not (tmp_path / "out").exists()


def test_a_run_that_left_nothing_here_has_failed(tmp_path, small, monkeypatch, capfd):
    monkeypatch.setattr(Workers, "start", lambda self: elsewhere(tmp_path / "other host"))
    (folder,) = sweep([Run("a", small(steps=1))], tmp_path / "out")
    right = f"left no summary in {folder}; use a folder that all hosts share"
    assert read_run(folder).summary["status"] == "failed"
    assert read_run(folder).summary["message"] == right
    assert f"[1/1] a: failed: {right}" in capfd.readouterr().err
    # Nor is what an earlier sweep had left there the outcome of this one.
    write_failure(folder, small(steps=1), "another trouble")
    sweep([Run("a", small(steps=1))], tmp_path / "out", progress=False)
    assert read_run(folder).summary["message"] == right
    monkeypatch.undo()
    sweep([Run("a", small(steps=1))], tmp_path / "out", processes=SERIAL, progress=False)
    assert read_run(folder).summary["status"] == "finished"


def test_another_config_in_a_folder_stops_the_sweep_before_it_begins(tmp_path, small):
    sweep([Run("a", small(steps=1))], tmp_path, processes=SERIAL, progress=False)
    with pytest.raises(ValueError, match=r"a holds a run with another config .*seed"):
        sweep([Run("b", small()), Run("a", small(steps=1, seed=1))], tmp_path, progress=False)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("names", "words"),
    [(["a", "b", "a"], "must differ, got a"), (["a/b"], "a/b"), ([".."], r"\.\."), ([""], "''")],
)
def test_names_are_checked(tmp_path, names, words):
    with pytest.raises(ValueError, match=words):
        sweep([Run(name, Config()) for name in names], tmp_path, progress=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pool": "abacus"}, "one of serial, local, ray, got 'abacus'"),
        ({"pool": "batched"}, "removed in 0.2.0"),
        ({"processes": 0}, "at least 1, got 0"),
        ({"pool": "ray", "processes": 2}, "processes must be None for ray, got 2; use pool local"),
        ({"gpus_per_run": 0.5}, "gpus_per_run must be None for local"),
        ({"pool": "ray", "gpus_per_run": 1.5}, "whole number or less than 1"),
        ({"pool": "ray", "retries": -1}, "retries must be at least 0"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Workers(**options)


def test_without_ray_one_line_names_the_extra(tmp_path, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"corridor\[sweeps\]"):
        sweep([Run("a", small())], tmp_path, processes=Workers(pool="ray"), progress=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_saves_what_is_running_and_says_how_to_go_on(tmp_path, number):
    program = (
        "from corridor.train.config import Config\n"
        "from corridor.train.sweep.runs import Run, sweep\n"
        "if __name__ == '__main__':\n"
        f"    sweep([Run('long', Config(epochs=100000))], {str(tmp_path)!r}, progress=False)\n"
    )
    (tmp_path / "main.py").write_text(program)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not list((tmp_path / "long").glob("checkpoints/step-*")):
        assert time.monotonic() < end
        time.sleep(0.02)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal sends it: to all
    else:
        process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert "Interrupted: stopped; repeat the sweep into" in said
    assert said.count("Traceback") == 1  # the parent's; workers end in silence
    run = read_run(tmp_path / "long")
    newest = max((tmp_path / "long" / "checkpoints").glob("step-*"))
    assert run.summary is None
    assert int(newest.name[5:]) == run.steps[-1]["step"]


def test_a_killed_driver_loses_no_run_that_had_ended(tmp_path, small):
    """The driver is killed during the second run, and the same sweep goes on at once."""
    slow = {"model": "tests.train.small_networks:slow", "epochs": 4, "checkpoint_every": 3}
    start = (
        f"sweep([Run(str(i), Config(batch_size=256, seed=i, **{slow!r})) for i in range(3)], "
        f"{str(tmp_path / 'out')!r}, processes=1, progress=False)"
    )
    program = (
        "from corridor.train.config import Config\n"
        "from corridor.train.sweep.runs import Run, sweep\n"
        f"if __name__ == '__main__':\n    {start}\n"
    )
    (tmp_path / "main.py").write_text(program)
    process = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], env=environment())
    folders = [tmp_path / "out" / str(i) for i in range(3)]
    end = time.monotonic() + 60
    while not any(map(read_summary, folders)):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()  # SIGKILL
    process.wait()
    ended = [folder for folder in folders if read_summary(folder)]
    assert len(ended) < 3
    before = [contents(folder) for folder in ended]
    # At once: its workers may still be saving the runs in flight.
    runs = [Run(str(i), small(**slow, seed=i)) for i in range(3)]
    assert sweep(runs, tmp_path / "out", processes=1, progress=False) == folders
    assert [contents(folder) for folder in ended] == before
    assert [read_run(folder).summary["status"] for folder in folders] == ["finished"] * 3
    whole = [Run(str(i), runs[i].config) for i in (1, 2)]
    for folder in sweep(whole, tmp_path / "whole", processes=SERIAL, progress=False):
        assert losses(folder) == losses(tmp_path / "out" / folder.name)


def test_a_run_whose_metrics_are_damaged_fails_alone(tmp_path, small):
    runs = [Run("a", small()), Run("b", small(seed=1))]
    for folder in sweep(runs, tmp_path, processes=SERIAL, progress=False):
        (folder / "summary.json").unlink()
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write("no json\n")
    one, other = map(read_summary, sweep(runs, tmp_path, processes=SERIAL, progress=False))
    assert one is not None
    assert other is not None
    assert (one.status, other.status) == ("failed", "finished")
    assert "metrics.jsonl" in one.message


def test_a_second_sweep_into_a_folder_is_refused(tmp_path, small):
    with locked(tmp_path), pytest.raises(OSError, match="another process is writing to"):
        sweep([Run("a", small())], tmp_path, processes=1, progress=False)
    assert not (tmp_path / "a").exists()


def test_a_run_that_another_process_trains_is_not_stamped_as_failed(tmp_path, small, monkeypatch):
    monkeypatch.setattr("corridor.train.sweep.runs.HELD_SECONDS", 0.0)

    def runner(jobs, *, report):
        yield 0, "another process is writing"

    monkeypatch.setattr(Workers, "start", lambda self: runner)
    (tmp_path / "a").mkdir()
    with locked(tmp_path / "a"):
        sweep([Run("a", small())], tmp_path, progress=False)
    assert read_summary(tmp_path / "a") is None
    sweep([Run("a", small())], tmp_path, progress=False)
    summary = read_summary(tmp_path / "a")
    assert summary is not None
    assert summary.status == "failed"


def test_a_run_that_raises_leaves_its_traceback_in_its_folder(tmp_path, small):
    runs = [Run("a", small(model="tests.train.small_networks:raises_later", steps=3))]
    (folder,) = sweep(runs, tmp_path, processes=SERIAL, progress=False)
    text = (folder / "traceback.txt").read_text()
    assert "small_networks.py" in text
    assert text.rstrip().endswith("RuntimeError: the second step fails")
    message = read_run(folder).summary["message"]
    assert message == "RuntimeError: the second step fails; see traceback.txt in its folder"


def test_a_sweep_into_the_folder_of_a_run_is_refused(tmp_path, small):
    train(small(steps=1), tmp_path / "a", progress=False)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ValueError, match="out must be a folder of runs, got the run"):
        corridor.train.sweep([Run("b", small(steps=1))], tmp_path / "a", progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

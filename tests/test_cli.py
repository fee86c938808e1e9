import dataclasses
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from tests.train.processes import corridor as corridor_process
from tests.train.processes import environment

import corridor
from corridor import cli
from corridor.train.config import Config
from corridor.train.folder.record import read_run
from corridor.train.sweep.pool import Ended
from corridor.train.sweep.runs import Run, Workers

LINEAR = "tests.train.small_networks:linear"
QUICK = ["--model", LINEAR, "--batch-size", "256", "--epochs", "2", "--no-progress"]


@pytest.fixture
def run(capfd):
    """Run a command line in this process: status, stdout, stderr."""

    def call(*arguments):
        status = cli.main([str(a) for a in arguments])
        said = capfd.readouterr()
        return status, said.out, said.err

    return call


def test_version(run):
    assert run("--version") == (0, f"corridor {corridor.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_the_commands(run, arguments):
    status, out, err = run(*arguments)
    assert status == 0
    assert err == ""
    assert "train" in out
    assert "sweep" in out


def test_every_field_of_the_config_is_an_option(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = run("train", "--help")
    assert status == 0
    for entry in dataclasses.fields(Config):
        assert f"--{entry.name.replace('_', '-')} " in out
        assert entry.metadata["help"].split()[0] in out


def test_options_become_the_config(run, tmp_path):
    status, out, err = run(
        "train", "--out", tmp_path / "a", *QUICK, "--lr", "inf", "--steps", 3, "--no-drop-last",
        "--augment", "--f-star", "-0.5", "--eval-every", 0,
    )  # fmt: skip
    assert (status, err) == (0, "")
    expected = Config(
        model=LINEAR, batch_size=256, epochs=2, lr=float("inf"), steps=3, drop_last=False,
        augment=True, f_star=-0.5, eval_every=0,
    )  # fmt: skip
    assert read_run(tmp_path / "a").config == expected
    assert "finished: 3 steps" in out
    assert "final loss" in out
    assert "test accuracy" in out
    assert "step size" in out
    assert str(tmp_path / "a") in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "--out"),
        (["train", "--out", "{tmp}/a", "--lr", "fast"], "--lr"),
        (["train", "--out", "{tmp}/a", "--learning-rate", "1"], "--learning-rate"),
        (["train", "--out", "{tmp}/a", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["train", "--out", "{tmp}/a", "--lr", "nan"], "lr must be a number"),
        (["train", "--out", "{tmp}/a", "--lr", "inf", "--schedule", "cosine"], "infinite cap"),
        (
            ["train", "--out", "{tmp}/a", "--optimizer", "sgd"],
            "lr must be a number for optimizer 'sgd'",
        ),
        (["train", "--out", "{tmp}/a", "--optimizer", "adamx"], "clr, clr-adam, polyak"),
        (["train", "--out", "{tmp}/a", "--data", "nothing-like-this"], "nothing-like-this"),
        (["train", "--out", "{tmp}/a", "--model", "nothing-like-this"], "nothing-like-this"),
        (["train", "--out", "{tmp}/a", "--device", "abacus"], "device"),
        (["train", "--out", "{tmp}/full"], "not empty"),
        (["train", "--out", "{tmp}/full/file"], "cannot write to"),
        (["train", "--out", "/proc/nowhere"], "cannot write to /proc/nowhere"),
        (["practise"], "practise"),
        (["sweep", "nothing-like-this", "--out", "{tmp}/a"], "recipe must be one of one"),
        (["sweep", "one", "--out", "{tmp}/a", "--grid", "seed=1"], "leave --grid out"),
        (["sweep", "no-such.toml", "--out", "{tmp}/a"], "no-such.toml: No such file"),
        (["sweep", "--out", "{tmp}/a", "--grid", "rate=1"], "has no option 'rate'"),
        (["sweep", "--out", "{tmp}/a", "--seeds", "0"], "seeds must be at least 1"),
        (["sweep", "--out", "{tmp}/a", "--scale", "0.5"], "an axis: --grid scale=0.5"),
        (["sweep", "--out", "{tmp}/a", "--seeds", "2", "--seed", "5"], "leave seed out"),
        (["sweep", "--out", "{tmp}/a", "--seeds", "2", "--grid", "seed=5"], "leave seed out"),
        (["sweep", "--out", "{tmp}/a", "--lr", "1", "--grid", "lr=2"], "lr was given once for all"),
        (["sweep", "--out", "{tmp}/a", "--grid", "lr=1", "--grid", "lr=2"], "lr must be one axis"),
        (["reproduce", "--out", "{tmp}/a", "--batch-size", "64"], "--batch-size"),
        (["sweep", "--out", "{tmp}/a", "--address", "x:1"], "address belongs to engine ray"),
        (["figure", "2", "--out", "{tmp}/a", "--engine", "abacus"], "engine must be one of"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(run, tmp_path, recipes, arguments, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    status, out, err = run(*[a.replace("{tmp}", str(tmp_path)) for a in arguments])
    assert status == 2
    assert out == ""
    assert err.startswith("corridor: ")
    assert err.count("\n") == 1
    assert words in err


@pytest.fixture
def recipes(monkeypatch):
    """A recipe book with one recipe."""

    def one(scale, seeds, overrides):
        few = {"model": LINEAR, "batch_size": 256, "steps": 3}
        broken = "tests.train.small_networks:broken"
        runs = [Run("good", Config(**few)), Run("bad", Config(**{**few, "model": broken}))]
        return runs if scale == "demo" else runs[:1]

    book = types.ModuleType("corridor.paper.recipes")
    book.RECIPES = {"one": one}  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "corridor.paper", types.ModuleType("corridor.paper"))
    monkeypatch.setitem(sys.modules, "corridor.paper.recipes", book)


def test_sweep_runs_a_recipe(run, tmp_path, recipes):
    out = tmp_path / "runs"
    status, said, _ = run("sweep", "one", "--out", out, "--processes", 1, "--no-progress")
    assert status == 1
    assert "1 finished, 1 failed" in said
    assert "bad: RuntimeError: this network cannot be built" in said
    assert read_run(out / "good").summary is not None
    status, said, _ = run("sweep", "one", "--scale", "laptop", "--out", out, "--no-progress")
    assert status == 0


def test_sweep_runs_a_grid(run, tmp_path):
    few = ["--model", LINEAR, "--batch-size", 256, "--steps", 2, "--no-progress"]
    axes = ["--grid", "optimizer=clr,sps-max", "--seeds", 2]
    status, said, _ = run("sweep", "--out", tmp_path / "a", *few, *axes)
    assert status == 0
    assert "4 runs" in said
    table = said[said.index("setting") :].splitlines()
    assert sorted(line.split()[0] for line in table[1:]) == ["optimizer-clr", "optimizer-sps-max"]
    assert all("2 of 2" in line for line in table[1:])
    (tmp_path / "grid.toml").write_text('epochs = 1\noptimizer = ["clr", "sps-max"]\n')
    status, said, _ = run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "b", *few)
    assert status == 0
    one, other = tmp_path / "a" / "optimizer-clr_seed-0", tmp_path / "b" / "optimizer-clr"
    assert [s["loss"] for s in read_run(one).steps] == [s["loss"] for s in read_run(other).steps]
    assert read_run(other).config.epochs == 1


def test_a_sweep_whose_results_are_not_here_is_no_success(run, tmp_path, monkeypatch):
    def runner(jobs, *, report):  # workers that write to disks of their own
        yield from (Ended(index, "") for index in range(len(jobs)))

    monkeypatch.setattr(Workers, "start", lambda self: runner)
    status, said, _ = run("sweep", "--out", tmp_path, "--seeds", 2, "--no-progress")
    assert status == 1
    assert "2 runs" in said
    assert "2 failed" in said
    assert f"seed-1: left no summary in {tmp_path / 'seed-1'}; use a folder that all hosts" in said


def test_debugging_shows_the_traceback(run, tmp_path, monkeypatch):
    monkeypatch.setenv("CORRIDOR_DEBUG", "1")
    status, _, err = run("train", "--out", tmp_path, "--epochs", 0)
    assert status == 2
    assert "Traceback" in err


@pytest.mark.slow
def test_a_damaged_checkpoint_is_a_warning_line(tmp_path):
    arguments = ["train", "--out", tmp_path / "a", *QUICK]
    assert corridor_process(*arguments).returncode == 0
    (tmp_path / "a" / "summary.json").unlink()
    (tmp_path / "a" / "checkpoints" / "step-000000010" / "plain.pt").write_bytes(b"torn")
    resumed = corridor_process(*arguments, "--resume")
    assert resumed.returncode == 0
    (line,) = resumed.stderr.splitlines()
    assert line.startswith("corridor: warning: ")
    assert "step-000000010 is damaged" in line


def test_progress_off_a_terminal_is_a_line_an_epoch(tmp_path):
    done = corridor_process("train", "--out", tmp_path / "a", *QUICK[:-1])
    assert done.returncode == 0
    first, *epochs = done.stderr.splitlines()
    assert "10 steps" in first
    assert [line.split(":")[0] for line in epochs] == ["epoch 1", "epoch 2"]
    assert all("images/s" in line and "test accuracy" in line for line in epochs)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_stopped_run_says_how_to_go_on_and_does(tmp_path, number):
    out = tmp_path / "a"
    arguments = [sys.executable, "-m", "corridor", "train", "--out", str(out), *QUICK]
    arguments += ["--epochs", "100000"]
    process = subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not list((out / "checkpoints").glob("step-*")):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(process.pid, number)
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == ""
    (line,) = complaint.splitlines()
    assert line.startswith("corridor: stopped at step ")
    assert line.endswith("go on with --resume")
    steps = len(read_run(out).steps)
    shorter = corridor_process(
        "train", "--out", out, *QUICK, "--steps", steps + 1, "--epochs", 100000, "--resume"
    )
    assert shorter.returncode == 0, shorter.stderr
    assert len(read_run(out).steps) == steps + 1


def test_a_reader_that_goes_away_is_no_error():
    program = f"{sys.executable} -m corridor train --help | head -n 1"
    done = subprocess.run(program, shell=True, capture_output=True, text=True, env=environment())
    assert done.stderr == ""

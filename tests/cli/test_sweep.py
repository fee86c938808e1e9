"""``corridor sweep``, by its words and exit statuses."""

import sys
import types

import pytest

from corridor.train.config import Config
from corridor.train.folder.record import read_run
from corridor.train.sweep.runs import Run, Workers

LINEAR = "tests.train.small_networks:linear"


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


def test_sweep_runs_a_recipe(command, tmp_path, recipes):
    out = tmp_path / "runs"
    status, said, _ = command("sweep", "one", "--out", out, "--processes", 1, "--no-progress")
    assert status == 1
    assert "1 finished, 1 failed" in said
    assert "bad: ValueError: model tests.train.small_networks:broken must accept" in said
    assert "got RuntimeError: this network cannot be built" in said
    assert read_run(out / "good").summary is not None
    status, said, _ = command("sweep", "one", "--scale", "laptop", "--out", out, "--no-progress")
    assert status == 0


def test_sweep_runs_a_grid(command, tmp_path):
    few = ["--model", LINEAR, "--batch-size", 256, "--steps", 2, "--no-progress"]
    axes = ["--grid", "optimizer=clr,sps-max", "--seeds", 2]
    status, said, _ = command("sweep", "--out", tmp_path / "a", *few, *axes)
    assert status == 0
    assert "4 runs" in said
    table = said[said.index("setting") :].splitlines()
    assert sorted(line.split()[0] for line in table[1:]) == ["optimizer-clr", "optimizer-sps-max"]
    assert all("2 of 2" in line for line in table[1:])
    (tmp_path / "grid.toml").write_text('epochs = 1\noptimizer = ["clr", "sps-max"]\n')
    status, said, _ = command("sweep", tmp_path / "grid.toml", "--out", tmp_path / "b", *few)
    assert status == 0
    one, other = tmp_path / "a" / "optimizer-clr_seed-0", tmp_path / "b" / "optimizer-clr"
    assert [s["loss"] for s in read_run(one).steps] == [s["loss"] for s in read_run(other).steps]
    assert read_run(other).config.epochs == 1


def test_a_sweep_whose_results_are_not_here_is_no_success(command, tmp_path, monkeypatch):
    def runner(jobs, *, report):  # workers that write to disks of their own
        yield from ((index, "") for index in range(len(jobs)))

    monkeypatch.setattr(Workers, "start", lambda self: runner)
    status, said, _ = command("sweep", "--out", tmp_path, "--seeds", 2, "--no-progress")
    assert status == 1
    assert "2 runs" in said
    assert "2 failed" in said
    assert f"seed-1: left no summary in {tmp_path / 'seed-1'}; use a folder that all hosts" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
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
        (
            ["sweep", "--out", "{tmp}/a", "--address", "x:1"],
            "address must be None for local, got x:1; use pool ray",
        ),
    ],
)
def test_wrong_input_is_one_line_and_status_2(refused, recipes, arguments, words):
    assert words in refused(*arguments)

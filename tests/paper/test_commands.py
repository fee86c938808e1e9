"""figure, reproduce, report, redraw and verdicts on the command line, and what stops them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.paper.made_up import sweep
from tests.train.processes import environment

from corridor.paper import figures, recipes, results
from corridor.paper.figure import read_manifest
from corridor.paper.report import tally
from corridor.paper.results import Plan

TINY = ["--seeds", "1", "--model", "mlp", "--width", "4", "--epochs", "1", "--processes", "1"]


def test_reproduce_trains_in_workers_reports_and_keeps(command, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", {6: figures.FIGURES[6]})
    out, kept = tmp_path / "out", tmp_path / "kept"
    status, printed, err = command("reproduce", "--out", out, "--keep", kept, *TINY)
    assert status == 0
    assert f"report in {out / 'report.html'}" in printed
    assert f"Figure 6. {figures.FIGURES[6].title}" in printed.splitlines()
    claims = read_manifest(out / "figures" / "fig06").claims
    assert f"Of {len(claims)} claims {tally([c.verdict for c in claims])}." in printed
    assert "[2/2]" in err
    assert [p.name for p in kept.iterdir()] == ["fig06.json"]


def test_a_figure_made_again_trains_nothing_and_redrawn_gives_one_report(
    command, tmp_path: Path, monkeypatch
):
    out, kept = tmp_path / "out", tmp_path / "kept"
    monkeypatch.setattr(results, "sweep", sweep)
    assert command("figure", 6, "--out", out, *TINY)[0] == 0
    assert command("report", out)[1] == f"report in {out / 'report.html'}\n"
    page = (out / "report.html").read_text()
    # The second command finds all runs, and starts no worker.
    monkeypatch.undo()
    status, printed, err = command("figure", 6, "--out", out, *TINY)
    assert status == 0
    assert "[2/2]" not in err
    assert f"figure 6 in {out / 'figures'}" in printed
    claims = read_manifest(out / "figures" / "fig06").claims
    assert all(f"{c.verdict}: {c.claim} ({c.measured})" in printed for c in claims)
    figures.keep(out, kept)
    assert command("redraw", kept, "--out", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "report.html").read_text() == page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["figure", "12"], "figure must be one of 1, 2, 3"),
        (["figure", "2", "--scale", "huge"], "scale must be one of demo, laptop, paper"),
        (["figure", "2", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["report", "nowhere"], "no figures in nowhere; make them with: corridor reproduce"),
        (["redraw", "nowhere"], "no figNN.json in nowhere"),
        (["verdicts", "nowhere"], "no results in nowhere"),
    ],
)
def test_wrong_input_is_one_line(command, tmp_path: Path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, _, err = command(*arguments)
    assert status == 2
    assert words in err.splitlines()[0]


def start(out: Path) -> subprocess.Popen[str]:
    """Figure 6 of two runs that take some seconds each, in processes of its own."""
    arguments = ["figure", "6", "--seeds", "1", "--model", "mlp", "--width", "8", "--epochs", "150"]
    return subprocess.Popen(
        [sys.executable, "-m", "corridor", *arguments, "--processes", "1", "--out", str(out)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 100
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def checkpointed(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a run has begun."""
    wait_for(folder / "metrics.jsonl", process)
    end = time.monotonic() + 60
    while (folder / "metrics.jsonl").stat().st_size == 0:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_figure_goes_on_and_repeats_no_run(tmp_path: Path):
    runs = recipes.RECIPES["figure6"]("demo", seeds=(0,), overrides={"model": "mlp"})
    first, second = (tmp_path / "runs" / "vgg" / run.name for run in runs)
    process = start(tmp_path)
    wait_for(first / "summary.json", process)
    checkpointed(second, process)
    os.killpg(process.pid, signal.SIGKILL)  # parent and workers at once, as the machine going down
    process.communicate()
    assert not (second / "summary.json").exists()
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in first.rglob("*") if p.is_file()}
    again = start(tmp_path)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before
    assert "[1/2]" not in said  # one run was left, and it is counted as the second
    assert "[2/2]" in said
    assert (tmp_path / "figures" / "fig06" / "fig06.png").exists()


@pytest.mark.slow
def test_an_interrupted_figure_is_one_line_and_keeps_its_steps(tmp_path: Path):
    first = (
        tmp_path
        / "runs"
        / "vgg"
        / recipes.RECIPES["figure6"]("demo", seeds=(0,), overrides={"model": "mlp"})[0].name
    )
    process = start(tmp_path)
    checkpointed(first, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    # A start that takes more than ten seconds, as on a busy machine, is a line of progress.
    progress = re.compile(r"\[|\d/\d ended, ")
    lines = [line for line in said.strip().splitlines() if not progress.match(line)]
    assert len(lines) == 1
    assert "stopped; repeat the sweep into" in lines[0]
    assert list((first / "checkpoints").glob("step-*"))


def test_missing_data_is_one_line_that_says_where_to_put_them(command, tmp_path: Path):
    (tmp_path / "nowhere").mkdir()
    status, _, err = command("figure", 3, "--scale", "paper", "--seeds", 1, "--out", tmp_path,
                             "--processes", 1, "--data-dir", tmp_path / "nowhere")  # fmt: skip
    assert status == 2
    assert "put the images there and give DIR by --data-dir or CORRIDOR_DATA" in err


@pytest.mark.parametrize("words", [["figure", 4], ["reproduce"]])
def test_missing_data_of_a_later_group_are_found_before_the_first_run(
    command, tmp_path: Path, monkeypatch, words
):
    def load(name, **options):
        if name == "imagenet":
            raise FileNotFoundError("no images of imagenet here")

    monkeypatch.setattr("corridor.data.load", load)
    status, said, err = command(*words, "--scale", "paper", "--out", tmp_path)
    assert (status, err) == (2, "corridor: no images of imagenet here\n")
    assert "holds" not in said
    assert not list(tmp_path.iterdir())


def test_an_ended_figure_needs_no_data(tmp_path: Path, monkeypatch):
    plan = Plan(
        tmp_path, seeds=(0,), workers=1, overrides={"model": "mlp", "epochs": 1, "width": 4}
    )
    plan.train(recipes.RECIPES["figure6"])
    monkeypatch.setattr("corridor.data.load", lambda name, **options: 1 / 0)
    plan.check(recipes.RECIPES["figure6"])
    assert len(plan.train(recipes.RECIPES["figure6"])) == 2

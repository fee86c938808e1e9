"""figure, reproduce, report, redraw and verdicts on the command line, and what stops them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.train.processes import environment

from corridor.paper import figures, readme, recipes
from corridor.paper.figure import read_manifest
from corridor.paper.report import tally

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "results"
TINY = ["--seeds", "1", "--model", "mlp", "--width", "4", "--epochs", "1", "--processes", "1"]


def test_reproduce_makes_figures_report_and_kept_numbers(command, tmp_path: Path, monkeypatch):
    few = {number: figures.FIGURES[number] for number in (4, 6)}
    monkeypatch.setattr(figures, "FIGURES", few)
    status, out, err = command("reproduce", "--out", tmp_path / "out", "--keep", tmp_path / "kept",
                           *TINY)  # fmt: skip
    assert status == 0
    assert f"report in {tmp_path / 'out' / 'report.html'}" in out
    titles = [line for line in out.splitlines() if line.startswith("Figure ")]
    assert titles == [f"Figure {number}. {module.TITLE}" for number, module in few.items()]
    made = [read_manifest(tmp_path / "out" / "figures" / f"fig{number:02d}") for number in few]
    claims = [claim for manifest in made for claim in manifest.claims]
    assert f"Of {len(claims)} claims {tally([c.verdict for c in claims])}." in out
    assert "[3/3]" in err  # figure 4's three forms of CLR
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {"fig04.json", "fig06.json"}
    page = (tmp_path / "out" / "report.html").read_text()
    for manifest in made:
        assert manifest.title in page
        assert all(claim.claim.replace("'", "&#39;") in page for claim in manifest.claims)
    # The same figures and report come from the numbers alone.
    assert command("redraw", tmp_path / "kept", "--out", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "report.html").read_text() == page


def test_figure_says_its_verdicts_and_the_report_is_made_again(command, tmp_path: Path):
    status, out, _ = command("figure", 6, "--out", tmp_path, *TINY)
    assert status == 0
    assert f"figure 6 in {tmp_path / 'figures'}" in out
    claims = [line for line in out.splitlines() if not line.startswith("Figure ")]
    assert sum("converges" in line for line in claims) == 2
    assert command("report", tmp_path)[1] == f"report in {tmp_path / 'report.html'}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["figure", "12"], "figure must be one of 1, 2, 3"),
        (["figure", "2", "--scale", "huge"], "scale must be one of demo, laptop, paper"),
        (["figure", "2", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["figure", "2", "--model", "resnet"], "expected one of"),
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


def test_a_report_of_one_run_names_what_draws_it(command, tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    status, _, err = command("report", tmp_path)
    assert status == 2
    assert "is one run and a report is of figures" in err
    assert f"corridor probe {tmp_path}" in err
    assert "--tensorboard" in err


def test_a_folder_with_runs_of_another_config_is_one_line(command, tmp_path: Path):
    assert command("figure", 6, "--out", tmp_path, *TINY)[0] == 0
    status, _, err = command(
        "figure", 6, "--out", tmp_path, *TINY, "--batch-size", 64, "--width", 8
    )
    assert status == 0  # the batch size is part of a run's name
    status, _, err = command("figure", 6, "--out", tmp_path, *TINY[:4], "--width", 5, *TINY[6:])
    assert status == 2
    assert "holds a run with another config (it differs in width); give a new folder" in err


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


def test_a_killed_figure_goes_on_and_repeats_no_run(tmp_path: Path):
    first, second = (tmp_path / "runs" / "vgg" / run.name for run in
                     recipes.figure6("demo", seeds=(0,), model="mlp"))  # fmt: skip
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


def test_an_interrupted_figure_is_one_line_and_keeps_its_steps(tmp_path: Path):
    first = tmp_path / "runs" / "vgg" / recipes.figure6("demo", seeds=(0,), model="mlp")[0].name
    process = start(tmp_path)
    checkpointed(first, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in said.strip().splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert "stopped; the same sweep into" in lines[0]
    assert list((first / "checkpoints").glob("*.pt"))


def test_the_readme_shows_figure_2_of_the_kept_results(tmp_path: Path):
    text = (ROOT / "README.md").read_text()
    assert readme.insert(text, readme.block(KEPT)) == text


def test_the_readmes_picture_is_drawn_from_the_kept_results(tmp_path: Path):
    import numpy as np
    from PIL import Image

    page = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", page)
    (tmp_path / readme.PICTURE).parent.mkdir(parents=True)
    readme.write(KEPT, page)
    assert page.read_text() == (ROOT / "README.md").read_text()
    kept, made = (np.asarray(Image.open(p / readme.PICTURE).convert("L"), dtype=float)
                  for p in (ROOT, tmp_path))  # fmt: skip
    assert kept.shape == made.shape
    assert np.abs(kept - made).mean() < 1.0


def test_a_readme_without_markers_is_one_line(command, tmp_path: Path):
    (tmp_path / "README.md").write_text("# corridor\n")
    status, _, err = command("verdicts", KEPT, "--page", tmp_path / "page.md", "--readme",
                         tmp_path / "README.md")  # fmt: skip
    assert status == 2
    assert "to write between" in err
    assert (tmp_path / "README.md").read_text() == "# corridor\n"


def test_a_readme_of_results_without_figure_2_is_one_line(command, tmp_path: Path):
    for scale in ("demo", "laptop"):
        (tmp_path / "results" / scale).mkdir(parents=True)
        shutil.copy(KEPT / "laptop" / "fig06.json", tmp_path / "results" / scale)
    shutil.copy(ROOT / "README.md", tmp_path)
    status, _, err = command("verdicts", tmp_path / "results", "--page", tmp_path / "page.md",
                         "--readme", tmp_path / "README.md")  # fmt: skip
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert "no figure 2 in" in err

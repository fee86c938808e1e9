"""Files that a person or another program has spoilt are one line that says what to do."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.train.processes import environment

from corridor import cli
from corridor.paper import report
from corridor.paper.curves import read_curve
from corridor.paper.figures import fig02_clr_against_fixed as fig02
from corridor.paper.report import pages as committed
from corridor.train.config import Config
from corridor.train.loop import train

KEPT = Path(__file__).parents[2] / "results"


def one_line(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command that fails says."""
    assert cli.main([str(a) for a in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def first(values: dict[str, Any]) -> dict[str, Any]:
    return next(iter(next(iter(values["groups"].values()))["settings"].values()))


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "groups is a list": lambda v: v.update(groups=[]),
    "no groups": lambda v: v.update(groups={}),
    "a group without settings": lambda v: next(iter(v["groups"].values())).pop("settings"),
    "an unknown config field": lambda v: first(v)["config"].update(speed=1),
    "a config out of range": lambda v: first(v)["config"].update(batch_size=0),
    "no curves": lambda v: first(v)["curves"].clear(),
    "a loss that is text": lambda v: first(v)["curves"][0].update(loss=["a"]),
    "a shorter loss": lambda v: first(v)["curves"][0]["loss"].pop(),
    "no final loss": lambda v: first(v)["curves"][0].pop("final_loss"),
    "more evaluations": lambda v: first(v)["curves"][0]["test_steps"].append(9),
    "a null target": lambda v: v.update(target=None),
    "another version": lambda v: v.update(version=99),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_are_one_line(damage: str, tmp_path: Path, capsys):
    results = tmp_path / "results" / "laptop"
    results.mkdir(parents=True)
    values = json.loads((KEPT / "laptop" / "fig02.json").read_text())
    DAMAGE[damage](values)
    (results / "fig02.json").write_text(json.dumps(values))
    for command in (["verdicts", results.parent, "--page", tmp_path / "page.md"],
                    ["redraw", results, "--out", tmp_path / "out"]):  # fmt: skip
        assert "make it again with: corridor figure 2" in one_line(capsys, *command)
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1', "\x00"])
def test_results_that_are_no_json_object_are_one_line(text: str, tmp_path: Path, capsys):
    (tmp_path / "fig05.json").write_text(text)
    assert "corridor figure 5" in one_line(capsys, "redraw", tmp_path, "--out", tmp_path / "out")


def test_results_of_an_unknown_figure_are_one_line(tmp_path: Path, capsys):
    for name in ("fig99.json", "figure.json"):
        (tmp_path / name).write_text("{}")
        assert name in one_line(capsys, "redraw", tmp_path, "--out", tmp_path / "out")
        (tmp_path / name).unlink()


@pytest.mark.parametrize("damage", ["rows", "claims", "images", "title"])
def test_a_damaged_manifest_is_one_line(damage: str, tmp_path: Path, capsys):
    folder = committed.unpack(KEPT / "laptop", tmp_path)[2]
    fig02.draw(folder)
    file = folder / "manifest.json"
    values = json.loads(file.read_text())
    for spoilt in (values | {damage: 7}, {k: v for k, v in values.items() if k != damage}):
        file.write_text(json.dumps(spoilt))
        assert "draw the figure again" in one_line(capsys, "report", tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(Config(model="mlp", width=4, steps=3), folder, progress=False)
    return folder


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"loss"', b'"lost"'), (b'"effective_lr"', b'"rate"'), (b"}\n", b"\n"), (b'"step"', b'"s"'),
     (b'"effective_lr": 1.0', b'"effective_lr": "one"')],
)  # fmt: skip
def test_damaged_metrics_are_one_line(run: Path, old: bytes, new: bytes):
    file = run / "metrics.jsonl"
    before = file.read_bytes()
    assert old in before
    try:
        file.write_bytes(before.replace(old, new))
        with pytest.raises(ValueError, match=r"metrics\.jsonl"):
            read_curve(run, 1, 0.1)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("library", ["matplotlib", "plotly", "jinja2"])
def test_a_missing_library_is_one_line_with_the_extra(library: str, tmp_path: Path, capsys,
                                                      monkeypatch):  # fmt: skip
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    said = one_line(capsys, "redraw", KEPT / "laptop", "--out", tmp_path)
    assert said == f"corridor: figures and report need {library}; pip install 'corridor[paper]'"


def full_disk() -> None:
    """Let no file of this process grow over 20 kB; a write beyond raises, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_leaves_one_line_and_no_torn_file(tmp_path: Path):
    folder = tmp_path / "kept"
    committed.keep(_unpacked(tmp_path), folder)
    for file in folder.glob("*.json"):
        if file.name != "fig05.json":
            file.unlink()
    ended = subprocess.run(
        [sys.executable, "-m", "corridor", "redraw", str(folder), "--out", str(tmp_path / "out")],
        capture_output=True, text=True, env=environment(), preexec_fn=full_disk, timeout=120,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "too large" in ended.stderr
    made = {p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert made <= {".json"}


def _unpacked(folder: Path) -> Path:
    committed.unpack(KEPT / "laptop", folder / "unpacked")
    return folder / "unpacked"


def test_the_report_is_not_torn_by_a_figure_that_lacks_its_image(tmp_path: Path, capsys):
    folder = committed.unpack(KEPT / "laptop", tmp_path)[2]
    fig02.draw(folder)
    page = report.build(tmp_path).read_bytes()
    (folder / "fig02.png").unlink()
    assert "draw the figure again" in one_line(capsys, "report", tmp_path)
    assert (tmp_path / "report.html").read_bytes() == page

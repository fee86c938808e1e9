"""The report of figures: what damages it is one line, and it is never torn."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.paper.made_up import KEPT
from tests.train.processes import environment

from corridor.paper import report
from corridor.paper.figures import figure, redraw


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """The kept numbers of figure 5 alone."""
    folder = tmp_path_factory.mktemp("kept")
    shutil.copy(KEPT / "laptop" / "fig05.json", folder)
    return folder


@pytest.fixture
def drawn(kept: Path, tmp_path: Path) -> Path:
    """A folder with figure 5."""
    redraw(kept, tmp_path)
    return tmp_path


def one_line(command, *arguments: object) -> str:
    status, _, err = command(*arguments)
    assert status == 2
    lines = err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_damaged_manifest_is_one_line(drawn: Path):
    file = drawn / "figures" / "fig05" / "manifest.json"
    values = json.loads(file.read_text())
    for name in ("rows", "claims", "images", "title"):
        for damaged in (values | {name: 7}, {k: v for k, v in values.items() if k != name}):
            file.write_text(json.dumps(damaged))
            with pytest.raises(ValueError, match=f"{name}.*; draw the figure again") as caught:
                report.build(drawn)
            assert "\n" not in str(caught.value)


def test_a_missing_image_leaves_the_old_report(command, drawn: Path):
    page = report.build(drawn).read_bytes()
    (drawn / "figures" / "fig05" / "fig05.png").unlink()
    assert "draw the figure again" in one_line(command, "report", drawn)
    assert (drawn / "report.html").read_bytes() == page


@pytest.mark.parametrize("library", ["matplotlib", "plotly", "jinja2"])
def test_a_missing_library_is_one_line_with_the_extra(
    library: str, command, kept: Path, tmp_path: Path, monkeypatch
):
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    found = one_line(command, "redraw", kept, "--out", tmp_path)
    assert found == f'corridor: {library} is required here; pip install "corridor[paper]"'


def full_disk() -> None:
    """Let no file of this process exceed 20 kB; a longer write raises, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_leaves_one_line_and_no_torn_file(kept: Path, tmp_path: Path):
    ended = subprocess.run(
        [sys.executable, "-m", "corridor", "redraw", str(kept), "--out", str(tmp_path / "out")],
        capture_output=True, text=True, env=environment(), preexec_fn=full_disk, timeout=120,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "too large" in ended.stderr
    made = {p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert made <= {".json"}


def test_nothing_to_report_names_the_command(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="make them with: corridor reproduce"):
        report.build(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="must be a folder of figures") as caught:
        report.build(tmp_path)
    assert f"corridor probe {tmp_path}" in str(caught.value)
    assert "--tensorboard" in str(caught.value)


def test_the_report_of_kept_numbers_has_every_part(kept: Path, drawn: Path):
    page = report.build(drawn).read_text()
    manifest = figure(5).describe(drawn / "figures" / "fig05")
    assert manifest.title in page
    assert all(claim.claim.replace("'", "&#39;") in page for claim in manifest.claims)

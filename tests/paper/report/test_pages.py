"""Pages made from kept numbers: verdicts, and figure 2 in the README."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.paper.made_up import KEPT

from corridor import cli
from corridor.paper import report
from corridor.paper.report import pages

ROOT = Path(__file__).parents[3]


def test_the_page_of_verdicts_is_made_from_the_kept_results():
    assert (ROOT / "docs" / "results.md").read_text() == pages.verdicts(KEPT)


def test_verdicts_are_counted_by_kind():
    assert report.tally(["holds"] * 2 + ["only in 1 of 3 seeds"] * 2 + ["tie"]) == (
        "2 hold, 2 hold in some seeds only, 1 is a tie"
    )


def test_the_readme_shows_figure_2_of_the_kept_results(tmp_path: Path):
    import numpy as np
    from PIL import Image

    page = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", page)
    (tmp_path / pages.PICTURE).parent.mkdir(parents=True)
    pages.write_readme(KEPT, page)
    assert page.read_text() == (ROOT / "README.md").read_text()
    kept, made = (np.asarray(Image.open(p / pages.PICTURE).convert("L"), dtype=float)
                  for p in (ROOT, tmp_path))  # fmt: skip
    assert kept.shape == made.shape
    assert np.abs(kept - made).mean() < 1.0


def test_a_readme_without_markers_is_one_line(command, tmp_path: Path):
    (tmp_path / "README.md").write_text("# corridor\n")
    arguments = ["--page", tmp_path / "page.md", "--readme", tmp_path / "README.md"]
    status, _, err = command("verdicts", KEPT, *arguments)
    assert status == 2
    assert "README must contain" in err
    assert (tmp_path / "README.md").read_text() == "# corridor\n"


def test_a_readme_of_results_without_figure_2_is_one_line(tmp_path: Path):
    for scale in ("demo", "laptop"):
        (tmp_path / scale).mkdir()
        shutil.copy(KEPT / "laptop" / "fig06.json", tmp_path / scale)
    with pytest.raises(FileNotFoundError, match=r"no figure 2 in .*; make it with"):
        pages.block(tmp_path)


def test_damaged_results_leave_no_page(command, tmp_path: Path):
    (tmp_path / "results" / "laptop").mkdir(parents=True)
    (tmp_path / "results" / "laptop" / "fig05.json").write_text("[]")
    status, _, err = command("verdicts", tmp_path / "results", "--page", tmp_path / "page.md")
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert str(tmp_path / "results" / "laptop" / "fig05.json") in err
    assert not (tmp_path / "page.md").exists()


def test_a_full_disk_is_one_line(tmp_path: Path, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "page.md"))

    monkeypatch.setattr(pages, "verdicts", full)
    assert cli.main(["verdicts", str(KEPT), "--page", str(tmp_path / "page.md")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"corridor: {tmp_path / 'page.md'}: No space left on device"
    ]

"""The kept results: figures drawn again, the page of verdicts, and what is wrong input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from corridor import cli
from corridor.paper import recipes, report, results
from corridor.paper.figures import (
    FIGURES,
    _converges,
    _shape,
    fig09_batch_sizes,
    fig10_caps,
    figure,
)
from corridor.paper.figures import training as _common
from corridor.paper.report import pages as committed
from corridor.train.config import Config

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "results"
TRAINED = [number for number in FIGURES if number != 1]


def test_the_page_of_verdicts_is_the_one_made_from_the_results():
    assert (ROOT / "docs" / "results.md").read_text() == committed.verdicts(KEPT)


def test_laptop_results_are_kept_for_every_trained_figure():
    assert sorted(p.name for p in (KEPT / "laptop").iterdir()) == [
        f"fig{number:02d}.json" for number in TRAINED
    ]
    assert sum(p.stat().st_size for p in KEPT.rglob("*.json")) < 4e6


@pytest.mark.parametrize("number", [4, 9])
def test_a_figure_is_drawn_from_what_is_kept(number: int, tmp_path: Path):
    folder = committed.unpack(KEPT / "laptop", tmp_path)[number]
    manifest = figure(number).draw(folder)
    assert (folder / manifest.images["png"]).read_bytes().startswith(b"\x89PNG")
    panels = json.loads((folder / str(manifest.curves)).read_text())
    assert all(panel["traces"] for panel in panels)
    assert all(len(row) == len(manifest.columns) for row in manifest.rows)
    assert "CIFAR-10 (JPEG q75)" in manifest.caption


def test_a_stand_in_says_so(tmp_path: Path):
    folders = committed.unpack(KEPT / "laptop", tmp_path)
    for number in (3, 4, 8):
        lead = figure(number).describe(folders[number]).caption.split(" for want")[0]
        assert lead.startswith("A stand-in for ")
        assert "ImageNet and ResNet-50" in lead


@pytest.mark.parametrize("number", [2, 4, 6, 7, 9])
def test_digits_are_no_cifar10(number: int):
    config = Config(data="digits", model="vgg16")
    assert "CIFAR-10" in _common.absent(number, "CIFAR-10", config)
    assert "CIFAR-10" not in _common.absent(number, "CIFAR-10", replace(config, data="cifar10"))


def test_figure_2_on_digits_is_a_stand_in(tmp_path: Path):
    made = figure(2).describe(committed.unpack(KEPT / "demo", tmp_path)[2])
    assert made.title.endswith("(a stand-in)")
    assert made.caption.startswith("A stand-in for CIFAR-10 and ResNet-18")


def test_figure_10_keeps_groups_that_look_alike(tmp_path: Path):
    read = results.read_results(committed.unpack(KEPT / "laptop", tmp_path)[10], 10)
    wide = read.groups["few images, wide network"]
    curves = next(iter(wide.settings.values())).curves
    halved = [replace(c, steps=[s // 2 for s in c.steps]) for c in curves]
    short = replace(next(iter(wide.settings.values())), curves=halved)
    read.groups["again"] = replace(
        wide, settings={**wide.settings, next(iter(wide.settings)): short}
    )
    names = fig10_caps._names(read)
    assert len(set(names.values())) == len(read.groups)
    claim = fig10_caps._stable(read)
    assert all(f"{name}: final loss" in claim.measured for name in names.values())
    assert claim.verdict == "does not hold"
    assert claim.reason.startswith("it holds for 500 images, resnet8 of width 64")


def test_a_law_that_misses_a_batch_by_a_quarter_does_not_hold():
    found = fig09_batch_sizes.fit([16, 64, 256, 1024], [0.34, 0.75, 1.1, 1.8])
    assert max(found.misses) == found.misses[-1] > fig09_batch_sizes.MISS


def test_a_law_that_a_constant_fits_as_well_is_undecided(tmp_path: Path):
    made = figure(9).describe(committed.unpack(KEPT / "laptop", tmp_path)[9])
    claim = next(claim for claim in made.claims if "gradient noise" in claim.claim)
    assert claim.verdict == "undecided"
    assert "misses by" in claim.measured


def test_seeds_that_disagree_are_no_condition(tmp_path: Path):
    made = figure(6).describe(committed.unpack(KEPT / "laptop", tmp_path)[6])
    verdicts = [claim.verdict for claim in made.claims]
    assert verdicts.count("only in 1 of 3 seeds") == 2
    assert report.tally(verdicts) == "2 hold, 2 hold in some seeds only"


def test_keeping_and_unpacking_changes_nothing(tmp_path: Path):
    committed.unpack(KEPT / "laptop", tmp_path / "out")
    committed.keep(tmp_path / "out", tmp_path / "kept")
    for number in TRAINED:
        name = f"fig{number:02d}.json"
        before, after = (json.loads((p / name).read_text()) for p in
                         (KEPT / "laptop", tmp_path / "kept"))  # fmt: skip
        assert before == after


@pytest.mark.parametrize("number", TRAINED)
def test_results_of_another_version_are_one_line(number: int, tmp_path: Path):
    folder = committed.unpack(KEPT / "laptop", tmp_path)[number]
    values = json.loads((folder / "data.json").read_text()) | {"version": 99}
    (folder / "data.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"version 99 .* again with: corridor figure {number}"):
        figure(number).describe(folder)


@pytest.mark.parametrize("number", TRAINED)
def test_missing_results_name_the_command(number: int, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=f"make it with: corridor figure {number}"):
        figure(number).describe(tmp_path)


def test_missing_data_is_one_line_that_says_where_to_put_them(tmp_path: Path, capsys):
    (tmp_path / "nowhere").mkdir()
    status = cli.main(
        ["figure", "3", "--scale", "paper", "--seeds", "1", "--out", str(tmp_path),
         "--processes", "1", "--data-dir", str(tmp_path / "nowhere")]
    )  # fmt: skip
    lines = capsys.readouterr().err.strip().splitlines()
    assert status == 2
    assert "put the images there and name DIR by --data-dir or CORRIDOR_DATA" in lines[-1]


def test_a_full_disk_is_one_line(tmp_path: Path, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "page.md"))

    monkeypatch.setattr(committed, "verdicts", full)
    assert cli.main(["verdicts", str(KEPT), "--page", str(tmp_path / "page.md")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"corridor: {tmp_path / 'page.md'}: No space left on device"
    ]


def test_no_results_are_one_line(tmp_path: Path, capsys):
    assert cli.main(["verdicts", str(tmp_path)]) == 2
    assert "make them with: corridor reproduce" in capsys.readouterr().err


@pytest.mark.parametrize("scale", recipes.SCALES)
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_gives_runs_of_different_names(name: str, scale: str):
    runs = recipes.RECIPES[name](scale, seeds=(0, 1))
    assert len({run.name for run in runs}) == len(runs)
    assert {run.config.seed for run in runs} == {0, 1}


def test_runs_that_figures_share_have_one_config():
    for scale in recipes.SCALES:
        for one, other in ((recipes.figure2, recipes.figure9), (recipes.figure3, recipes.figure8)):
            configs = {run.name: run.config for run in one(scale)}
            for run in other(scale):
                assert configs.get(run.name, run.config) == run.config


def test_the_noise_law_is_found_where_it_holds_and_refused_where_not(tmp_path: Path):
    sizes = [16, 64, 256]
    found = fig09_batch_sizes.fit(sizes, [3 / (1 + 100 / b) for b in sizes])
    assert (found.limit, found.noise) == pytest.approx((3.0, 100.0))
    assert fig09_batch_sizes.fit([1, 1e4, 1e8], [1.0, 2.0, 1.0]).misses[1] > 0.15


def test_convergence_asks_for_a_tenth_of_the_first_loss(tmp_path: Path):
    folders = committed.unpack(KEPT / "laptop", tmp_path)
    for number in (5, 6):
        read = results.read_results(folders[number], number)
        claims = _converges.converges(read, "")
        for claim, setting in zip(claims, next(iter(read.groups.values())).settings.values(),
                                  strict=True):  # fmt: skip
            left = max(c.final_loss / c.loss[0] for c in setting.curves)
            assert (claim.verdict == "holds") == (left < 0.1)


def test_shape_of_a_step_size(tmp_path: Path):
    folder = committed.unpack(KEPT / "laptop", tmp_path)[4]
    curve = next(
        iter(next(iter(results.read_results(folder, 4).groups.values())).settings.values())
    ).curves[0]
    count = len(curve.steps)
    rates = [1 + 9 * k / count if k < count / 2 else 10 - 18 * (k / count - 0.5) for k in
             range(count)]  # fmt: skip
    made = _shape.shape(replace(curve, effective_lr=rates))
    assert made.warms_up_then_decays
    assert 0.4 < made.peak < 0.7
    assert _shape.shape(replace(curve, effective_lr=rates[::-1])).rise > 1.2
    assert not _shape.shape(replace(curve, effective_lr=[1.0] * count)).decays
    skipped = _shape.shape(replace(curve, effective_lr=[0.0] * count))
    assert not skipped.decays
    assert not skipped.warms_up_then_decays

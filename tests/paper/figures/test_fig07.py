"""Figure 7 end to end on tiny runs, and its numbers on made-up lines."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.paper.made_up import sweep

from corridor import cli
from corridor.paper import report, results
from corridor.paper.drawing import geometry
from corridor.paper.figure import read_manifest
from corridor.paper.figures import fig07_geometry as fig07
from corridor.paper.figures import figure
from corridor.paper.figures.fig07_geometry import view
from corridor.paper.results import Plan
from corridor.train.config import Config
from corridor.train.folder.record import read_run
from corridor.train.loop import train

SMALL = {"model": "mlp", "width": 8, "epochs": 2}


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "sweep", sweep)
        made = figure(7).compute(Plan(folder, seeds=(0, 1), overrides=SMALL))
    figure(7).draw(made)
    return folder


def test_images_manifest_and_report_are_made(out: Path):
    folder = out / "figures" / "fig07"
    manifest = read_manifest(folder)
    assert (folder / manifest.images["png"]).read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / manifest.images["svg"]).read_bytes()[:2000]
    assert all(len(row) == len(manifest.columns) == 3 for row in manifest.rows)
    assert len(manifest.claims) == 2
    assert manifest.again == (
        "corridor figure 7 --scale demo --model mlp --width 8 --epochs 2 --seeds 2 --out out"
    )
    assert manifest.title in report.build(out).read_text()


def test_the_numbers_are_those_of_the_runs(out: Path):
    lines = fig07.probed(read_run(out / "runs" / "probed" / "clr-1_b256_seed0"))
    rows = dict(zip(fig07.ROWS, read_manifest(out / "figures" / "fig07").rows, strict=True))
    assert rows["steps in a near-corridor"][1] == f"{fig07.near_corridor(lines):.0%}"
    for line in lines:
        t = line["effective_lr"] * line["grad_norm"] ** 2 / line["loss"]
        expected = 1 - t + line["rho_parallel"] * t * t
        assert fig07.predicted_loss_ratio(line) == pytest.approx(expected, rel=1e-4)


def test_rank_correlation():
    assert fig07.rank_correlation([1, 2, 3, 4], [10, 20, 30, 25]) == pytest.approx(0.8)
    assert fig07.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    tied = fig07.rank_correlation([1, 1, 2, 3], [1, 2, 3, 4])
    assert tied == pytest.approx(0.9486833)  # scipy.stats.spearmanr
    assert math.isnan(fig07.rank_correlation([1, 1, 1], [1, 2, 3]))
    assert math.isnan(fig07.rank_correlation([1, math.nan, 3], [1, 2, 3]))


def test_claims_follow_the_numbers():
    assert fig07.correlated("c", [0.95, 0.91, 0.7]).verdict == "holds"
    assert fig07.correlated("c", [0.95, 0.85, 0.7]).verdict == "does not hold"
    assert fig07.correlated("c", [math.nan]).verdict == "undecided"


def line(step: int, rho: float) -> dict[str, float]:
    return {"step": step, "rho": rho, "loss": 1.0, "grad_norm": 1.0, "hg_norm": rho}


def test_near_corridors_are_shaded(tmp_path: Path):
    lines = [line(10 * k, r) for k, r in enumerate([0.1, 1.0, 0.2, 0.2, math.nan])]
    assert geometry.near_corridor(lines, 0.5) == [(0.0, 5.0), (15.0, 35.0)]
    assert geometry.near_corridor(lines, 1e-3) == []
    few = geometry.draw(lines, tmp_path, "some", level=0.5)  # what is not there is not drawn
    assert (tmp_path / few["png"]).exists()
    with pytest.raises(ValueError, match="at least two"):
        geometry.draw(lines[:1], tmp_path, "one", level=0.5)


def test_corridor_probe_draws_a_probed_run(out: Path, capsys: pytest.CaptureFixture[str]):
    run = out / "runs" / "probed" / "clr-1_b256_seed0"
    assert cli.main(["probe", str(run), "--level", "100"]) == 0
    said = capsys.readouterr().out
    count = len(fig07.probed(read_run(run)))
    assert f"{count} measurements from the run's metrics, {count} in a near-corridor" in said
    assert "median rho:" in said
    assert (run / "geometry.png").exists()


def test_corridor_probe_measures_the_checkpoints_of_another(tmp_path: Path):
    config = Config(model="mlp", width=8, batch_size=256, steps=6, checkpoint_every=2, keep=9)
    train(config, tmp_path / "run", progress=False)
    found = view(tmp_path / "run", batches=2)
    assert found.source == "checkpoints"
    assert [v["step"] for v in found.lines] == [2, 4, 6]
    assert found.image.exists()


def test_corridor_probe_of_a_run_without_secants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = Config(model="mlp", width=8, optimizer="adamw", batch_size=256, steps=4, probe=1)
    train(config, tmp_path / "run", progress=False)
    assert cli.main(["probe", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "median rho:" in said
    assert "secant" not in said


def test_corridor_probe_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["probe", str(tmp_path)]) == 2
    assert "no run in" in capsys.readouterr().err
    train(Config(model="mlp", width=8, steps=2), tmp_path / "run", progress=False)
    assert cli.main(["probe", str(tmp_path / "run"), "--batches", "1"]) == 2
    assert "--keep" in capsys.readouterr().err
    assert cli.main(["probe", str(tmp_path / "run"), "--level", "0"]) == 2
    assert "level must be above 0" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1437, 256])
def test_corridor_numbers_rank_what_steps_of_the_papers_clr_do(tmp_path: Path, batch_size: int):
    config = Config(
        model="mlp", lr=math.inf, batch_size=batch_size, steps=120, probe=1, eval_every=0
    )
    train(config, tmp_path / "run", progress=False)
    lines = fig07.probed(read_run(tmp_path / "run"))
    left = [line["secant_loss_ratio"] for line in lines]
    assert fig07.rank_correlation([line["rho_parallel"] for line in lines], left) >= 0.9
    assert fig07.gradient_correlation(lines) >= 0.9
    rising = sum(ratio > 1 for ratio in left) / len(lines)
    expected = sum(line["rho_parallel"] > 1 for line in lines) / len(lines)
    assert abs(rising - expected) <= 0.2

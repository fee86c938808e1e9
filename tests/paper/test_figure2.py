"""Figure 2 end to end on a tiny sweep, and its verdicts on made-up curves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from corridor.paper import recipes, report
from corridor.paper.curves import Curve
from corridor.paper.figure import read_manifest
from corridor.paper.figures import fig02_clr_against_fixed as fig02
from corridor.paper.figures import figure
from corridor.paper.results import Group, Results, Setting
from corridor.paper.words import diverged
from corridor.train.config import Config


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The figure of two seeds of three steps each, drawn and reported."""
    folder = tmp_path_factory.mktemp("out")
    made = fig02.compute(folder, "demo", seeds=(0, 1), epochs=2, model="mlp", width=8)
    fig02.draw(made)
    report.build(folder)
    return folder


def test_the_demo_recipe_asks_the_papers_question():
    runs = recipes.figure2("demo")
    configs = [run.config for run in runs]
    assert len({run.name for run in runs}) == len(runs)
    assert {c.seed for c in configs} == {0, 1, 2}
    rates = {c.lr for c in configs if c.optimizer == "sgd"}
    assert len(rates) >= 5
    assert {c.lr for c in configs if c.optimizer == "clr"} == {math.inf, 1.0}
    only_these_differ = {replace(c, optimizer="clr", lr=1.0, drift=None, seed=0) for c in configs}
    assert len(only_these_differ) == 1


@pytest.mark.parametrize("scale", recipes.SCALES)
def test_every_scale_gives_complete_configs(scale: str):
    assert recipes.figure2(scale, seeds=(0,), batch_size=64)[0].config.batch_size == 64


def test_unknown_scales_and_figures_are_one_line():
    with pytest.raises(ValueError, match="scale must be one of demo, laptop, paper"):
        recipes.figure2("huge")
    with pytest.raises(ValueError, match="figure must be one of 1, 2"):
        figure(99)


def test_images_manifest_and_report_are_made(out: Path):
    folder = out / "figures" / "fig02"
    manifest = read_manifest(folder)
    assert (folder / manifest.images["png"]).read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / manifest.images["svg"]).read_bytes()[:2000]
    assert len(manifest.rows) == len(recipes.FORMS) + len(recipes.FIXED_RATES)
    assert all(len(row) == len(manifest.columns) for row in manifest.rows)
    assert "2 seeds" in manifest.caption
    assert "Digits" in manifest.caption
    assert manifest.again == (
        "corridor figure 2 --scale demo --epochs 2 --model mlp --width 8 --seeds 2 --out out"
    )
    page = (out / "report.html").read_text()
    for claim in manifest.claims:
        assert claim.verdict in page
    assert "data:image/png;base64," in page
    assert "<script src=" not in page


def test_drawing_again_trains_nothing_and_gives_the_same_picture(out: Path):
    folder = out / "figures" / "fig02"
    before = (folder / "fig02.svg").read_bytes()
    runs = {f: f.stat().st_mtime_ns for f in (out / "runs").rglob("*.jsonl")}
    fig02.draw(folder)
    fig02.compute(out, "demo", seeds=(0, 1), epochs=2, model="mlp", width=8)
    assert {f: f.stat().st_mtime_ns for f in (out / "runs").rglob("*.jsonl")} == runs
    assert (folder / "fig02.svg").read_bytes() == before


def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="make it with: corridor figure 2"):
        fig02.draw(tmp_path)
    with pytest.raises(FileNotFoundError, match="make them with: corridor reproduce"):
        report.build(tmp_path)


def test_a_manifest_of_another_version_is_one_line(tmp_path: Path):
    (tmp_path / "manifest.json").write_text(json.dumps({"number": 2, "claims": []}))
    with pytest.raises(ValueError, match="draw the figure again"):
        read_manifest(tmp_path)


def made_up(steps: int | None, accuracy: float, lr: float, final: float = 0.001) -> Curve:
    loss = [2.3, final]
    rates = [lr, lr]
    return Curve(
        "finished", [1, 2], loss, rates, [2], [accuracy], steps, lr, lr, lr, lr, final, accuracy
    )


def verdicts(clr: Curve, fixed: dict[float, Curve]) -> list[str]:
    settings = {"clr": Setting(Config(optimizer="clr", lr=math.inf), [clr])}
    for rate, curve in fixed.items():
        settings[str(rate)] = Setting(Config(optimizer="sgd", lr=rate), [curve])
    groups = {"CIFAR-10": Group("Digits", 10, 5, settings)}
    results = Results(2, "demo", [0], {}, 0.01, [], {}, groups)
    return [claim.verdict for claim in fig02._claims(results)]


def test_verdicts_follow_the_numbers():
    fast, slow = made_up(10, 0.9, 0.5), made_up(20, 0.95, 1.0)
    assert verdicts(fast, {1.0: slow}) == ["holds", "holds"]
    assert verdicts(slow, {0.5: fast}) == ["does not hold", "undecided"]  # no larger rate ran
    never = made_up(None, 0.1, 1.0)
    assert verdicts(never, {1.0: never})[0] == "undecided"
    assert verdicts(never, {1.0: fast})[0] == "does not hold"
    assert verdicts(fast, {1.0: fast})[0] == "tie"


def test_a_larger_rate_is_larger_by_a_tenth():
    ours = made_up(10, 0.9, 1.0)
    assert verdicts(ours, {1.05: made_up(20, 0.95, 1.05)})[1] == "undecided"
    assert verdicts(ours, {1.2: made_up(20, 0.95, 1.2)})[1] == "holds"


def test_divergence_is_a_loss_that_ends_where_it_began():
    assert diverged(made_up(None, 0.1, 30.0, final=2.4))
    assert diverged(replace(made_up(None, 0.1, 30.0), status="diverged"))
    assert not diverged(made_up(None, 0.1, 0.01, final=1.8))

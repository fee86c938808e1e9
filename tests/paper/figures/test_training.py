"""A training figure end to end on tiny runs, and the verdicts of figure 2 on made-up curves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.paper.made_up import curve, sweep

from corridor.paper import report, results
from corridor.paper.curves import Curve
from corridor.paper.figure import read_manifest
from corridor.paper.figures import figure, training
from corridor.paper.results import Group, Plan, Results, Setting
from corridor.train.config import Config

TINY = {"epochs": 2, "model": "mlp", "width": 8}


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """Figure 6 of two seeds and two epochs, drawn and reported."""
    folder = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "sweep", sweep)
        made = figure(6).compute(Plan(folder, seeds=(0, 1), overrides=TINY))
    figure(6).draw(made)
    report.build(folder)
    return folder


def test_images_manifest_and_report_are_made(out: Path):
    folder = out / "figures" / "fig06"
    manifest = read_manifest(folder)
    assert (folder / manifest.images["png"]).read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / manifest.images["svg"]).read_bytes()[:2000]
    assert len(manifest.rows) == 2
    assert all(len(row) == len(manifest.columns) for row in manifest.rows)
    assert "2 seeds" in manifest.caption
    assert "Digits" in manifest.caption
    assert manifest.again == (
        "corridor figure 6 --scale demo --epochs 2 --model mlp --width 8 --seeds 2 --out out"
    )
    page = (out / "report.html").read_text()
    for claim in manifest.claims:
        assert claim.verdict in page
    assert "data:image/png;base64," in page
    assert "<script src=" not in page


def test_drawing_again_trains_nothing_and_gives_the_same_picture(out: Path):
    folder = out / "figures" / "fig06"
    before = (folder / "fig06.svg").read_bytes()
    runs = {f: f.stat().st_mtime_ns for f in (out / "runs").rglob("*.jsonl")}
    assert len(runs) == 4
    figure(6).draw(folder)
    assert {f: f.stat().st_mtime_ns for f in (out / "runs").rglob("*.jsonl")} == runs
    assert (folder / "fig06.svg").read_bytes() == before


def made_of(number: int, scale: str, groups: dict[str, Group]) -> Results:
    """Return results of one seed with a target of 0.01."""
    return Results(
        figure=number, scale=scale, seeds=[0], overrides={}, target=0.01, failed=[],
        environment={}, groups=groups,
    )  # fmt: skip


def test_the_network_of_the_paper_has_no_replacement():
    config = Config(data="cifar10", model="vgg16")
    settings = {"clr": Setting(config, [curve(1, 0.9, 1.0)])}
    groups = {"CIFAR-10": Group("CIFAR-10", 50_000, 5, settings)}
    found = made_of(6, "paper", groups)
    made = figure(6).describe_data(figure(6), found)
    assert made.title == figure(6).title
    assert made.caption.startswith("50,000 images of CIFAR-10; vgg16")
    assert made.claims[0].claim.startswith("CLR, cap 1: converges, a VGG on CIFAR-10")


def verdicts(clr: Curve, fixed: dict[float, Curve]) -> list[str]:
    settings = {"clr": Setting(Config(optimizer="clr", lr=math.inf), [clr])}
    for rate, one in fixed.items():
        settings[str(rate)] = Setting(Config(optimizer="sgd", lr=rate), [one])
    groups = {"CIFAR-10": Group("Digits", 10, 5, settings)}
    found = made_of(2, "demo", groups)
    return [claim.verdict for claim in training.against_fixed(found)]


FAST, SLOW, NEVER = curve(10, 0.9, 0.5), curve(20, 0.95, 1.0), curve(None, 0.1, 1.0)


@pytest.mark.parametrize(
    ("clr", "fixed", "expected"),
    [
        (FAST, {1.0: SLOW}, ["holds", "holds"]),
        (SLOW, {0.5: FAST}, ["does not hold", "undecided"]),
        (NEVER, {1.0: NEVER}, ["undecided", "undecided"]),
        (NEVER, {1.0: FAST}, ["does not hold", "undecided"]),
        (FAST, {1.0: FAST}, ["tie", "tie"]),
        # A larger rate is larger by at least a tenth.
        (curve(10, 0.9, 1.0), {1.05: curve(20, 0.95, 1.05)}, ["holds", "undecided"]),
        (curve(10, 0.9, 1.0), {1.2: curve(20, 0.95, 1.2)}, ["holds", "holds"]),
        (curve(10, 0.9, 1.0), {1.2: curve(20, 0.85, 1.2)}, ["holds", "does not hold"]),
    ],
)
def test_verdicts_of_figure_2_follow_the_numbers(clr: Curve, fixed: dict, expected: list[str]):
    assert verdicts(clr, fixed) == expected

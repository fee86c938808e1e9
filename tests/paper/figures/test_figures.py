"""The table of figures, and each figure drawn from the kept results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.paper.made_up import KEPT, load

from corridor.paper import words
from corridor.paper.figures import FIGURES, fig09_batch_sizes, fig10_caps, figure, unpack
from corridor.train.config import Config


def test_figures_stand_in_order_and_unknown_ones_are_one_line():
    assert [f.number for f in FIGURES.values()] == list(FIGURES) == list(range(1, 11))
    with pytest.raises(ValueError, match="figure must be one of 1, 2, 3"):
        figure(99)


@pytest.mark.parametrize("number", [4, 9])
def test_a_figure_is_drawn_from_kept_numbers(number: int, tmp_path: Path):
    folder = unpack(KEPT / "laptop", tmp_path)[number]
    manifest = figure(number).draw(folder)
    assert (folder / manifest.images["png"]).read_bytes().startswith(b"\x89PNG")
    panels = json.loads((folder / str(manifest.curves)).read_text())
    assert all(panel["traces"] for panel in panels)
    assert all(len(row) == len(manifest.columns) for row in manifest.rows)
    assert "CIFAR-10 (JPEG q75)" in manifest.caption


@pytest.mark.parametrize(
    ("number", "scale", "start"),
    [
        (2, "demo", "At this scale, Digits and cnn of width 16 replace CIFAR-10 and ResNet-18. "),
        (3, "laptop", "At this scale, CIFAR-10 (JPEG q75) and resnet14 of width 16 replace Image"),
        (4, "laptop", "At this scale, resnet8 replaces ResNet-18; CIFAR-10 (JPEG q75) and resn"),
        (7, "laptop", "At this scale, resnet8 replaces ResNet-18. "),
    ],
)
def test_replacements_are_named(number: int, scale: str, start: str, tmp_path: Path):
    made = figure(number).describe(unpack(KEPT / scale, tmp_path)[number])
    assert made.caption.startswith(start)
    assert made.title.endswith("(with replacements)")


@pytest.mark.parametrize("number", [2, 4, 6, 7, 9])
def test_digits_replace_cifar10(number: int):
    config = Config(data="digits", model="vgg16")
    assert "CIFAR-10" in words.absent(number, "CIFAR-10", config)
    assert "CIFAR-10" not in words.absent(number, "CIFAR-10", replace(config, data="cifar10"))


def test_figure_10_names_groups_that_look_alike_by_their_length(tmp_path: Path):
    results = load(10, tmp_path)
    wide = results.groups["few images, wide network"]
    name, one = next(iter(wide.settings.items()))
    halved = replace(one, curves=[replace(c, steps=[s // 2 for s in c.steps]) for c in one.curves])
    results.groups["again"] = replace(wide, settings={**wide.settings, name: halved})
    names = fig10_caps.names(results)
    assert len(set(names.values())) == len(results.groups)
    claim = fig10_caps.stable(results)
    assert all(f"{name}: final loss" in claim.measured for name in names.values())
    assert claim.verdict == "does not hold"
    assert claim.reason.startswith("it holds for 500 images, resnet8 of width 64")


def test_the_noise_law_is_found_where_it_holds():
    sizes = [16, 64, 256]
    found = fig09_batch_sizes.fit(sizes, [3 / (1 + 100 / b) for b in sizes])
    assert (found.limit, found.noise) == pytest.approx((3.0, 100.0))
    assert fig09_batch_sizes.fit([1, 1e4, 1e8], [1.0, 2.0, 1.0]).misses[1] > 0.15
    missed = fig09_batch_sizes.fit([16, 64, 256, 1024], [0.34, 0.75, 1.1, 1.8])
    assert max(missed.misses) == missed.misses[-1] > fig09_batch_sizes.MISS


def test_a_law_that_a_constant_fits_as_well_is_undecided(tmp_path: Path):
    claims = figure(9).claims(load(9, tmp_path))
    claim = next(claim for claim in claims if "gradient noise" in claim.claim)
    assert claim.verdict == "undecided"
    assert "misses by" in claim.measured


def test_figure_9_is_drawn_without_a_batch_size_at_matched_loss(tmp_path: Path):
    folder = unpack(KEPT / "laptop", tmp_path)[9]
    values = json.loads((folder / "data.json").read_text())
    for setting in values["groups"]["CIFAR-10"]["settings"].values():
        for curve in setting["curves"]:
            curve["matched_clr"] = "nan"
    (folder / "data.json").write_text(json.dumps(values))
    manifest = figure(9).draw(folder)
    assert "undecided" in [claim.verdict for claim in manifest.claims]
    assert len(json.loads((folder / str(manifest.curves)).read_text())) == 3

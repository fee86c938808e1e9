"""Runs of the recipes: names, configs, and which options may be replaced."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from corridor.paper import recipes

ALL = [(name, scale) for name in recipes.RECIPES for scale in recipes.SCALES]


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_every_recipe_gives_runs_of_different_names_and_common_options(name: str, scale: str):
    recipe = recipes.RECIPES[name]
    runs = recipe(scale, seeds=(0, 1))
    assert len({run.name for run in runs}) == len(runs)
    assert {run.config.seed for run in runs} == {0, 1}
    small = recipe(scale, seeds=(1, 1), overrides={"model": "mlp", "width": 8, "epochs": 1})
    assert len(small) == len(runs) // 2
    assert {(c.model, c.width, c.epochs) for c in (run.config for run in small)} == {("mlp", 8, 1)}


@pytest.mark.parametrize(
    ("name", "scale", "first"),
    [
        ("figure2", "demo", ["clr-uncapped_b512_seed0", "clr-1_b512_seed0"]),
        ("figure3", "demo", ["clr-10_b32_seed0", "clr-10_b128_seed0", "clr-10_b512_seed0"]),
        ("figure4", "demo", ["clr-uncapped_b512_seed0", "clr-1_b512_seed0"]),
        ("figure7", "demo", ["clr-1_b256_seed0"]),
        ("figure8", "demo", ["clr-10_b512_seed0", "clr-1_b512_seed0", "clr-drift1_b512_seed0",
                             "sgd-0.1_b512_seed0"]),
        ("caps", "laptop", ["clr-uncapped_b500_seed0", "clr-1_b500_seed0"]),
    ],
)  # fmt: skip
def test_names_of_run_folders_stay(name: str, scale: str, first: list[str]):
    runs = recipes.RECIPES[name](scale, seeds=(0,))
    assert [run.name for run in runs][: len(first)] == first


def test_figure_2_compares_optimizers_and_nothing_else():
    configs = [run.config for run in recipes.RECIPES["figure2"]("demo")]
    assert {c.seed for c in configs} == {0, 1, 2}
    assert len({c.lr for c in configs if c.optimizer == "sgd"}) >= 5
    assert {c.lr for c in configs if c.optimizer == "clr"} == {math.inf, 1.0}
    assert len({replace(c, optimizer="clr", lr=1.0, drift=None, seed=0) for c in configs}) == 1


@pytest.mark.parametrize("scale", recipes.SCALES)
def test_figure_7_probes_its_runs(scale: str):
    config = recipes.RECIPES["figure7"](scale, seeds=(3,), overrides={"batch_size": 64})[0].config
    assert config.probe > 0
    assert config.probe_curvature
    assert (config.batch_size, config.seed) == (64, 3)


@pytest.mark.parametrize("scale", recipes.SCALES)
def test_runs_that_figures_share_have_one_config(scale: str):
    for one, other in (
        (recipes.RECIPES["figure2"], recipes.RECIPES["figure9"]),
        (recipes.RECIPES["figure3"], recipes.RECIPES["figure8"]),
    ):
        configs = {run.name: run.config for run in one(scale)}
        for run in other(scale):
            assert configs.get(run.name, run.config) == run.config


@pytest.mark.parametrize(
    ("name", "scale", "overrides", "words"),
    [
        ("figure2", "demo", {"lr": 0.1}, "lr must differ between the runs of figure2; leave lr"),
        ("figure2", "demo", {"optimizer": "clr"}, "optimizer must differ"),
        ("figure3", "demo", {"batch_size": 64, "epochs": 1}, "leave batch_size out"),
        ("figure2", "demo", {"seed": 5}, "seed must not be given to a recipe; give seeds"),
        ("figure3", "huge", {}, "scale must be one of demo, laptop, paper"),
    ],
)
def test_wrong_input_is_one_line(
    name: str, scale: str, overrides: dict[str, Any], words: str
):  # fmt: skip
    with pytest.raises(ValueError, match=words) as caught:
        recipes.RECIPES[name](scale, overrides=overrides)
    assert "\n" not in str(caught.value)


def test_a_replaced_network_has_its_own_width_and_checkpoints():
    runs = recipes.RECIPES["figure2"]("demo", seeds=(0,), overrides={"model": "resnet8"})
    config = runs[0].config
    assert config.width is None
    assert config.checkpoint_every == 0

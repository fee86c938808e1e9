"""Experiments: sets of runs that figures share, a folder each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from corridor.paper import recipes
from corridor.train.sweep.runs import Run

Recipe = Callable[..., list[Run]]

# The folder under ``out/runs`` that a recipe's runs lie in; recipes in one folder share runs.
FOLDERS: dict[Recipe, str] = {
    recipes.figure2: "resnet18",
    recipes.figure3: "imagenet",
    recipes.figure4: "resnet18",
    recipes.figure5: "resnet50",
    recipes.figure6: "vgg",
    recipes.figure7: "probed",
    recipes.figure8: "imagenet",
    recipes.figure9: "resnet18",
    recipes.caps: "caps",
    recipes.narrow: "narrow",
    recipes.wide: "wide",
}
ALL: Sequence[Recipe] = tuple(FOLDERS)


def folder(out: Path, recipe: Recipe) -> Path:
    """Where the runs of a recipe lie."""
    return out / "runs" / FOLDERS[recipe]

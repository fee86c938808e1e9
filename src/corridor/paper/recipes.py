"""Make the runs of each experiment from recipes.toml; figures share runs of equal names."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from corridor.train.config import Config
from corridor.train.sweep.runs import Run

Options = dict[str, Any]

SCALES = ("demo", "laptop", "paper")


@dataclass(frozen=True)
class Recipe:
    """Make the runs of one experiment from options of all and of each, per scale.

    Recipes with one folder under ``out/runs`` share runs.
    """

    name: str
    folder: str
    bases: Mapping[str, Options]
    settings: Mapping[str, Sequence[Options]]

    def __call__(
        self,
        scale: str,
        seeds: Sequence[int] = (0, 1, 2),
        *,
        overrides: Mapping[str, Any] | None = None,
    ) -> list[Run]:
        """Return one run per setting and seed; overrides replace `Config` fields of all runs.

        Example:
            >>> runs = RECIPES["figure2"]("demo", seeds=(0,))
            >>> runs[0].name, runs[0].config.optimizer, runs[0].config.data
            ('clr-uncapped_b512_seed0', 'clr', 'digits')
        """
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
        given = dict(overrides or {})
        if "seed" in given:
            raise ValueError("seed must not be given to a recipe; give seeds")
        base, settings = dict(self.bases[scale]), self.settings[scale]
        if "model" in given:
            base.pop("width", None)  # the width fits the network that it was set for
        if given.keys() & {"data", "data_dir", "model"}:
            base.pop("checkpoint_every", None)  # a replaced network or data set may take hours
        runs = []
        for seed, setting in product(dict.fromkeys(seeds), settings):
            config = Config(**{**base, **setting, **given, "seed": seed})
            runs.append(Run(f"{setting_name(config)}_seed{seed}", config))
        if len({run.name for run in runs}) < len(runs):
            own = ", ".join(sorted({key for s in settings for key in s} & given.keys()))
            raise ValueError(f"{own} must differ between the runs of {self.name}; leave {own} out")
        return runs


def setting_name(config: Config) -> str:
    """Return optimizer, cap or rate, and batch size, as in the name of a run's folder.

    >>> setting_name(Config(optimizer="clr", lr=float("inf"), batch_size=512))
    'clr-uncapped_b512'
    """
    rate = f"-{config.lr:g}".replace("-inf", "-uncapped")
    if config.drift is not None:
        rate = f"-drift{config.drift:g}" + rate.replace("-uncapped", "")
    return f"{config.optimizer}{rate}_b{config.batch_size}"


def _settings(table: Options) -> Iterator[Options]:
    axes = [value if isinstance(value, list) else [value] for value in table.values()]
    for values in product(*axes):
        options = dict(zip(table, values, strict=True))
        yield FORMS[options.pop("form")] | options


def _recipe(name: str, base: str, folder: str = "", **tables: Sequence[Options]) -> Recipe:
    bases = {scale: _BOOK["common"][scale] | _BOOK["base"][base][scale] for scale in SCALES}
    settings = {scale: [s for t in rows for s in _settings(t)] for scale, rows in tables.items()}
    return Recipe(name, folder or base, bases, settings)


_BOOK = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
FORMS: dict[str, Options] = _BOOK["form"]
RECIPES = {name: _recipe(name, **table) for name, table in _BOOK["recipe"].items()}

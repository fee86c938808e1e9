"""Gather the numbers behind a figure from runs, and read them from one file."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from corridor import _extras
from corridor.paper.curves import Curve, read_curve, spread
from corridor.paper.recipes import Recipe, setting_name
from corridor.train.config import Config
from corridor.train.folder.record import RunRecord, read_run
from corridor.train.sweep.runs import Run, Workers, check_data, sweep

with _extras.required("pydantic", extra="paper"):
    from pydantic import PlainValidator, TypeAdapter, ValidationError

T = TypeVar("T")
Trained = Sequence[tuple[Run, RunRecord]]

# One rule for every data set and scale, fixed before the runs that it judges.
TARGET_SHARE = 0.01
# For pydantic: a field has the type of its annotation (an int may replace a float).
STRICT: Any = {"extra": "forbid", "strict": True}
StoredConfig = Annotated[Config, PlainValidator(Config.from_dict)]


@dataclass(frozen=True)
class Setting:
    """Hold one curve per seed, and the config of the first run."""

    config: StoredConfig
    curves: list[Curve]

    def __post_init__(self) -> None:
        if not self.curves:
            raise ValueError("a setting has no curves")
        for curve in self.curves:
            if not len(curve.steps) == len(curve.loss) == len(curve.effective_lr) > 0:
                raise ValueError("steps, loss and effective_lr differ in length or are empty")
            if len(curve.test_steps) != len(curve.test_accuracy):
                raise ValueError("test_steps and test_accuracy differ in length")

    @property
    def fails(self) -> bool:
        """True if some run diverged."""
        return any(curve.diverged for curve in self.curves)

    @property
    def fails_always(self) -> bool:
        """True if every run diverged."""
        return all(curve.diverged for curve in self.curves)

    @property
    def at_cap(self) -> bool:
        """True if most steps of the median run are as long as the cap allows."""
        return self.median("median_lr") == self.config.lr

    def values(self, name: str) -> list[Any]:
        """Return one field of `Curve` per run."""
        return [getattr(curve, name) for curve in self.curves]

    def median(self, name: str) -> float:
        """Return the median over runs of a field of `Curve`; a missing value counts as inf."""
        return spread(self.values(name))[1]


@dataclass(frozen=True)
class Group:
    """Hold settings of one network on one data set, by name, in the order of the recipe."""

    data: str
    images: int  # number of training images; 0 if it is not known
    parameters: int
    settings: dict[str, Setting]

    @property
    def members(self) -> list[Setting]:
        """Return all settings, in the order of the recipe."""
        return [*self.settings.values()]

    @property
    def config(self) -> Config:
        """Return the config of the first setting."""
        return self.members[0].config

    def batch(self, setting: Setting) -> int:
        """Return the number of images per step, at most all images."""
        return min(setting.config.batch_size, self.images or setting.config.batch_size)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """State the plan that the numbers of a figure come from, and the environment of a run."""

    scale: str
    seeds: list[int]
    overrides: dict[str, Any]
    environment: dict[str, Any]

    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Results(Runs):
    """Hold all numbers of a figure made of training curves."""

    figure: int
    target: float  # training loss that counts as reached; the smallest target of all groups
    failed: list[str]  # runs that raised or were killed, each with the reason
    groups: dict[str, Group]  # by the data set of the paper, or by a name

    def __post_init__(self) -> None:
        if not self.settings:
            raise ValueError("there are no runs")

    @property
    def settings(self) -> list[Setting]:
        """Return all settings of all groups."""
        return [s for group in self.groups.values() for s in group.members]

    def of(self, optimizer: str) -> list[Setting]:
        """Return the settings of one optimizer."""
        return [s for s in self.settings if s.config.optimizer == optimizer]


@dataclass(frozen=True, kw_only=True)
class Probed(Runs):
    """Hold the probed steps of each run of one setting; `Group` describes the other fields."""

    config: StoredConfig
    data: str
    parameters: int
    lines: list[list[dict[str, float]]]
    images: int = 0  # missing in files of older versions

    def __post_init__(self) -> None:
        if not self.lines or len(self.lines) != len(self.seeds) or not all(self.lines):
            raise ValueError("some seeds have no probed steps")


@dataclass(frozen=True)
class Plan:
    """State which runs of a figure to make, in the folder `out` of runs and figures.

    Overrides replace config fields of the recipes. Workers are a number of runs or a `Workers`.
    """

    out: Path
    scale: str = "demo"
    seeds: Sequence[int] = (0, 1, 2)
    workers: Any = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def check(self, recipe: Recipe) -> None:
        """Raise ValueError or OSError if the data of a missing run cannot be loaded."""
        workers = self.workers if isinstance(self.workers, Workers) else Workers()
        check_data(self._runs(recipe), self.out / "runs" / recipe.folder, workers)

    def train(self, recipe: Recipe) -> Trained:
        """Train the missing runs of a recipe, and return all its runs."""
        runs = self._runs(recipe)
        folders = sweep(runs, self.out / "runs" / recipe.folder, processes=self.workers)
        return [(run, read_run(folder)) for run, folder in zip(runs, folders, strict=True)]

    def _runs(self, recipe: Recipe) -> list[Run]:
        return recipe(self.scale, self.seeds, overrides=self.overrides)

    def header(self) -> dict[str, Any]:
        """Return scale, seeds and overrides as JSON values."""
        # A kept file must not depend on the folders of one machine.
        overrides = {k: v for k, v in self.overrides.items() if k != "data_dir"}
        return {"scale": self.scale, "seeds": list(self.seeds), "overrides": overrides}


def gather(plan: Plan, number: int, recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """Train the missing runs of a figure, per group, and return `Results` as JSON values."""
    values = {**plan.header(), "figure": number, "target": math.inf, "failed": [], "groups": {}}
    for name, recipe in recipes.items():
        trained = plan.train(recipe)
        ended = [pair for pair in trained if end_of(pair[1])["status"] != "failed"]
        failed = [pair for pair in trained if pair not in ended]
        values["failed"] += [f"{run.name}: {end_of(record)['message']}" for run, record in failed]
        if not ended:
            raise ValueError(f"all {len(trained)} runs failed; the first: {values['failed'][-1]}")
        (run, first), folder = ended[0], plan.out / "runs" / recipe.folder
        end = end_of(first)
        target = _target(folder / run.name, end["classes"])
        values["target"] = min(values["target"], target)
        values["environment"] = first.environment
        values["groups"][name] = {
            "data": end["data"],
            "images": end["images"] or first.config.train_limit or 0,
            "parameters": end["parameters"],
            "settings": _settings(ended, folder, target),
        }
    return values


def end_of(record: RunRecord) -> dict[str, Any]:
    """Return the summary of a run of a sweep."""
    assert record.summary is not None, "a sweep returns after all runs have ended"
    return record.summary


def _settings(trained: Trained, folder: Path, target: float) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for run, record in trained:
        # Averaged over one epoch, the loss of each image counts once.
        window = sum(line.get("epoch") == 0 for line in record.steps)
        empty = {"config": run.config.to_dict(), "curves": []}
        curves = settings.setdefault(setting_name(run.config), empty)["curves"]
        curves.append(asdict(read_curve(folder / run.name, window, target)))
    return settings


def _target(folder: Path, classes: int) -> float:
    """Return a hundredth of ln(classes), the loss of a uniform guess, in two digits.

    >>> _target(Path("run"), 10), _target(Path("run"), 1000)
    (0.023, 0.069)
    """
    if classes < 2:
        raise ValueError(
            f"{folder} holds a run of an older version; remove it and make the figure again"
        )
    return float(f"{TARGET_SHARE * math.log(classes):.2g}")


def checked(cls: type[T], values: Any) -> T:
    """Return a dataclass from JSON values; a ValueError names the first field that does not fit.

    >>> checked(Setting, {"config": {}, "curves": 3})
    Traceback (most recent call last):
    ValueError: curves: input should be a valid array, got 3
    """
    try:
        # In JSON mode, strict validation accepts an object for a dataclass.
        return TypeAdapter(cls).validate_json(json.dumps(values))
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(map(str, found["loc"])) or "the file"
        message = found["msg"].removeprefix("Value error, ")
        got = "" if isinstance(found["input"], dict | list) else f", got {found['input']!r:.60}"
        raise ValueError(f"{place}: {message[:1].lower()}{message[1:]}{got}") from error


def rounded(value: Any) -> Any:
    """Return JSON values with their floats in five significant digits.

    >>> rounded({"loss": [0.123456789, 2]})
    {'loss': [0.12346, 2]}
    """
    return json.loads(json.dumps(value), parse_float=lambda digits: float(f"{float(digits):.5g}"))

"""Compute, describe and draw one figure of the paper."""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from corridor.paper.curves import reading
from corridor.paper.recipes import Recipe
from corridor.paper.results import STRICT, Plan, checked, rounded
from corridor.train.folder.files import atomic, dumps, numbers, read_json, write_json

Data = TypeVar("Data")

VERSION = 1
DATA = "data.json"
MANIFEST = "manifest.json"
REDRAW = "draw the figure again with: corridor figure"


@dataclass(frozen=True)
class Claim:
    """Hold a claim of the paper and its measurement, in words."""

    claim: str
    measured: str  # numbers, with their spread over seeds
    verdict: str  # "holds", "holds under ...", "only in ...", "tie", "does not hold", "undecided"
    reason: str = ""  # reason of any verdict but "holds"
    setting: str = ""  # network, data and seeds; empty: as for the figure


@dataclass(frozen=True)
class Manifest:
    """Hold all that the report shows of a figure: claims, images and a table with notes."""

    number: int
    title: str
    caption: str
    images: dict[str, str]
    claims: list[Claim]
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]
    again: str
    environment: dict[str, Any] = field(default_factory=dict)
    interactive: str | None = None  # file name of data for a turning surface
    curves: str | None = None  # file name of curves to zoom into

    __pydantic_config__ = STRICT


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest in a figure's folder; raise ValueError if it is damaged."""
    with reading(folder / MANIFEST, REDRAW):
        return checked(Manifest, read_json(folder / MANIFEST))


@dataclass(frozen=True, kw_only=True)
class Figure(Generic[Data]):
    """Compute, describe and draw one figure of the paper.

    `compute` writes numbers to a file. `describe` and `draw` only read that file.

    Attributes:
        number: number in the paper; 10 is an addition.
        title: title in a few words.
        gather: function that trains the missing runs and returns the numbers as JSON values.
        read: function that checks these JSON values.
        claims: function from the checked numbers to claims with verdicts.
        describe_data: function from figure and numbers to a manifest without images.
        picture: function that draws the numbers into a folder under a name. It returns the fields
            of the manifest that name the files.
        recipes: recipes whose runs the figure needs (default: none).
    """

    number: int
    title: str
    gather: Callable[[Plan], dict[str, Any]]
    read: Callable[[dict[str, Any]], Data]
    claims: Callable[[Data], list[Claim]]
    describe_data: Callable[["Figure[Data]", Data], Manifest]
    picture: Callable[[Data, Path, str], dict[str, Any]]
    recipes: Collection[Recipe] = ()

    @property
    def name(self) -> str:
        """Return the name of the figure's folder and files, such as ``fig02``."""
        return f"fig{self.number:02d}"

    def check(self, plan: Plan) -> None:
        """Raise ValueError or OSError if the data of a missing run cannot be loaded."""
        for recipe in self.recipes:
            plan.check(recipe)

    def compute(self, plan: Plan) -> Path:
        """Train the missing runs of a plan, write the numbers and return the figure's folder."""
        self.check(plan)
        values = self.gather(plan)
        folder = plan.out / "figures" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / DATA) as file:
            file.write(dumps(rounded({"version": VERSION, **values})).encode())
        return folder

    def load(self, place: Path) -> Data:
        """Return the numbers that `compute` wrote, from the figure's folder or from a kept file."""
        file = place / DATA if place.is_dir() else place
        if not file.exists():
            raise FileNotFoundError(f"no {file}; make it with: corridor figure {self.number}")
        with reading(file, f"make it again with: corridor figure {self.number}"):
            values = numbers(read_json(file))
            found = values.pop("version", None)
            if found != VERSION:
                raise ValueError(f"unsupported file version {found} (expected {VERSION})")
            return self.read(values)

    def describe(self, place: Path) -> Manifest:
        """Return caption, claims and table, without images."""
        return self.describe_data(self, self.load(place))

    def draw(self, folder: Path) -> Manifest:
        """Draw the figure from its numbers, and write images and manifest."""
        data = self.load(folder)
        files = self.picture(data, folder, self.name)
        manifest = replace(self.describe_data(self, data), **files)
        write_json(folder / MANIFEST, asdict(manifest))
        return manifest

"""What a figure leaves for the report: a manifest beside its images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from corridor.paper import checked
from corridor.train.folder.files import read_json, write_json

NAME = "manifest.json"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and what was found.

    Attributes:
        claim: what the paper says.
        measured: what was measured, with its spread.
        verdict: holds, holds under (with the condition), only in (with the seeds), tie, does not
            hold, or undecided.
        reason: why, where it does not hold or holds under a condition alone.
        setting: network, data and seeds.
    """

    claim: str
    measured: str
    verdict: str
    reason: str = ""
    setting: str = ""


@dataclass(frozen=True)
class Manifest:
    """All the report needs to know of a figure.

    Attributes:
        number: of the figure in the paper.
        title: in a few words.
        caption: data, network, scale, seeds, hardware and commit.
        images: file names by kind, png and svg.
        claims: the paper's claims that the figure bears on.
        columns: heads of the table.
        rows: the table, as text; the first entry of a row is its name.
        notes: what a reader should know of the table.
        again: the command that makes the figure again.
        interactive: file name of the data of a turning surface, if the figure has one.
        curves: file name of the curves that a reader can zoom into, if the figure has any.
    """

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
    interactive: str | None = None
    curves: str | None = None

    def write(self, folder: Path) -> None:
        """Write the manifest into the figure's folder."""
        write_json(folder / NAME, asdict(self))


def read_manifest(folder: Path) -> Manifest:
    """Read what `Manifest.write` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it was written by another version, or is damaged.
    """
    with checked.reading(folder / NAME, "draw the figure again with: corridor figure"):
        return checked.build(Manifest, read_json(folder / NAME))

"""The numbers behind figure 7: the probed steps of some runs, and where they were made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corridor.paper import checked
from corridor.paper.results import DATA, VERSION
from corridor.train.config import Config

NUMBER = 7

Lines = list[dict[str, float]]


@dataclass(frozen=True)
class Probed:
    """All that the figure is drawn from.

    Attributes:
        scale: demo, laptop or paper.
        seeds: one a run.
        overrides: config fields that replaced the recipe's.
        config: that of the first run.
        data: the data set's title.
        parameters: of the network.
        environment: where the first run was made.
        lines: the probed steps of each run.
        images: training images; 0 where an older version did not record them.
    """

    scale: str
    seeds: list[int]
    overrides: dict[str, Any]
    config: Config
    data: str
    parameters: int
    environment: dict[str, Any]
    lines: list[Lines]
    images: int = 0


def read_probed(folder: Path) -> Probed:
    """Read the figure's numbers.

    Raises:
        FileNotFoundError: there are none; the message names the command that makes them.
        ValueError: another version wrote them, or they are damaged.
    """
    with checked.figure(folder / DATA, NUMBER, VERSION) as values:
        values["config"] = Config.from_dict(values["config"])
        data = checked.build(Probed, values)
        if not data.lines or len(data.lines) != len(data.seeds) or not all(data.lines):
            raise ValueError("it holds no probed steps for some of its seeds")
        return data

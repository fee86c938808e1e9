"""Keep the numbers of steps on the device, and fetch many at once, so that no step waits."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from corridor.train.processes.team import Team

# An optimizer that skips steps may recover; after this number in a row the run ends.
PATIENCE = 20


def fetch(lines: list[dict[str, Any]], team: Team) -> None:
    """Replace the tensors in lines by numbers, the loss by its mean over ranks."""
    for name in {key for line in lines for key, value in line.items() if isinstance(value, Tensor)}:
        column = torch.stack([line[name] for line in lines])
        if name == "loss":
            column = team.total(column.double()) / team.world
        for line, number in zip(lines, column.tolist(), strict=True):
            line[name] = number


@dataclass
class Watch:
    """Find the step at which a run turned non-finite, or skipped `PATIENCE` steps in a row."""

    skips: bool
    skipped: int = 0
    in_row: int = 0

    def diverged(self, lines: list[dict[str, Any]]) -> int | None:
        """Return the index of the line at which the run diverged; None if it did not."""
        for index, line in enumerate(lines):
            if self.skips:
                self.in_row = self.in_row + 1 if line["skipped"] > self.skipped else 0
                self.skipped = line["skipped"]
                bad = self.in_row >= PATIENCE
            else:
                bad = not (math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]))
            if bad:
                return index
        return None

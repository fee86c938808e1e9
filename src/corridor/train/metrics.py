"""Keep the numbers of steps on the device, and fetch many at once, so that no step waits."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# An optimizer that skips steps may recover; after this number in a row the run ends.
PATIENCE = 20


@dataclass(frozen=True, slots=True)
class Numbers:
    """What an optimizer step leaves on the device; the loss is its mean over ranks."""

    loss: Tensor
    grad_norm: Tensor
    effective_lr: Tensor | float
    skipped: Tensor | int
    drift_limit: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run; `step` and `seconds` include it, `epoch` starts at 0."""

    step: int
    epoch: int
    seconds: float
    numbers: Numbers
    geometry: Mapping[str, float] = field(default_factory=dict)


def fetch(
    steps: list[Step], mean: Callable[[Tensor], Tensor] = lambda losses: losses
) -> list[dict[str, Any]]:
    """Return the lines of the metrics for some steps, with one wait for the device per column.

    >>> one = Step(1, 0, 0.5, Numbers(torch.tensor(2.0), torch.tensor(3.0), 0.1, 0))
    >>> fetch([one])[0]["grad_norm"]
    3.0
    """
    if not steps:
        return []
    columns = {
        "loss": mean(torch.stack([s.numbers.loss for s in steps])).tolist(),
        "effective_lr": _column([s.numbers.effective_lr for s in steps]),
        "grad_norm": _column([s.numbers.grad_norm for s in steps]),
        "skipped": _column([s.numbers.skipped for s in steps]),
    }
    limits = _column([s.numbers.drift_limit for s in steps])
    return [
        {
            "step": s.step,
            "epoch": s.epoch,
            **{name: values[index] for name, values in columns.items()},
            "seconds": round(s.seconds, 6),
            **({} if limits[index] is None else {"drift_limit": limits[index]}),
            **s.geometry,
        }
        for index, s in enumerate(steps)
    ]


def _column(values: list[Any]) -> list[Any]:
    return torch.stack(values).tolist() if isinstance(values[0], Tensor) else values


@dataclass
class Watch:
    """Find the step at which a run turned non-finite, or skipped `PATIENCE` steps in a row."""

    skips: bool
    skipped: int = 0
    in_row: int = 0

    def diverged(self, lines: list[dict[str, Any]]) -> int | None:
        """Return the index of the line at which the run diverged; None if it did not.

        >>> Watch(skips=False).diverged([{"loss": math.nan, "grad_norm": 1.0, "skipped": 0}])
        0
        """
        for index, line in enumerate(lines):
            if not self.skips:
                if not (math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"])):
                    return index
                continue
            self.in_row = self.in_row + 1 if line["skipped"] > self.skipped else 0
            self.skipped = line["skipped"]
            if self.in_row >= PATIENCE:
                return index
        return None

    def message(self, step: int) -> str:
        """Return the reason why a run diverged at a step.

        >>> Watch(skips=False).message(3)
        'loss or gradient: not finite at step 3'
        """
        what = "too many skipped steps in a row" if self.skips else "not finite"
        return f"loss or gradient: {what} at step {step}"

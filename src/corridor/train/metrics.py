"""Step metrics kept on the device and fetched in bulk, so that no step waits for the host."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# A CLR run skips what is not finite, and is given up when nothing else comes.
PATIENCE = 20


@dataclass(frozen=True, slots=True)
class Step:
    """Numbers of one step, 0-dim tensors still on the device; of a probed one, the landscape's."""

    step: int
    epoch: int
    seconds: float
    loss: Tensor
    grad_norm: Tensor
    effective_lr: Tensor | float
    skipped: Tensor | int
    drift_limit: Tensor | None = None
    geometry: Mapping[str, float] = field(default_factory=dict)


def fetch(
    steps: list[Step], mean: Callable[[Tensor], Tensor] = lambda losses: losses
) -> list[dict[str, Any]]:
    """The metrics lines of some steps; one wait for the device in all for each column.

    Args:
        steps: What is to be fetched.
        mean: Averages losses, [n], over ranks.

    >>> one = Step(1, 0, 0.5, torch.tensor(2.0), torch.tensor(3.0), 0.1, 0)
    >>> fetch([one])[0]["grad_norm"]
    3.0
    """
    if not steps:
        return []
    columns = zip(
        mean(torch.stack([s.loss for s in steps])).tolist(),
        _column([s.effective_lr for s in steps]),
        torch.stack([s.grad_norm for s in steps]).tolist(),
        _column([s.skipped for s in steps]),
        _column([s.drift_limit for s in steps]),
        strict=True,
    )
    return [
        {
            "step": s.step,
            "epoch": s.epoch,
            "loss": loss,
            "effective_lr": effective_lr,
            "grad_norm": grad_norm,
            "skipped": skipped,
            "seconds": round(s.seconds, 6),
            **({} if limit is None else {"drift_limit": limit}),
            **s.geometry,
        }
        for s, (loss, effective_lr, grad_norm, skipped, limit) in zip(steps, columns, strict=True)
    ]


def _column(values: list[Any]) -> list[Any]:
    tensors = isinstance(values[0], Tensor)
    return torch.stack(values).tolist() if tensors else values


@dataclass
class Watch:
    """Finds the step at which a run turned non-finite.

    Attributes:
        skips: Whether the optimizer skips non-finite steps; then ``PATIENCE`` skipped steps in a
            row end the run, otherwise the first non-finite loss or gradient does.
        skipped: Steps skipped before the next line.
        in_row: Skipped steps since the last one that was not.
    """

    skips: bool
    skipped: int = 0
    in_row: int = 0

    def diverged(self, lines: list[dict[str, Any]]) -> int | None:
        """Index of the line at which the run diverged; None if it has not.

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
        """Why a run that diverged at a step ended.

        >>> Watch(skips=False).message(3)
        'loss or gradient: not finite at step 3'
        """
        what = "too many skipped steps in a row" if self.skips else "not finite"
        return f"loss or gradient: {what} at step {step}"

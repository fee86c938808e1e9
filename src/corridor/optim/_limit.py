"""Bound the size of a step.

A limit returns the largest step that it allows. The optimizer takes the smallest of its rule's step
and of all active limits, before the cap of each group. A limit has no state. Its scalars live in
the first parameter group, and it may measure its own sums over parameters and buffers.

A new limit is a subclass of `Limit` that overrides `bound`, named in ``LIMITS`` of an optimizer.
docs/architecture.md shows a limit, a metric and an averaging.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from corridor.optim import _options
from corridor.optim._bucket import NORM, Bucket, Sums
from corridor.optim._loss import Watched
from corridor.optim._options import Memory, Now, Options

__all__ = ["NORM", "Limit"]


class Limit:
    """Define a limit. `bound` must be overridden; the rest has defaults."""

    option: str | None = None  # turns the limit on; None: always on
    OPTIONS: ClassVar[Mapping[str, _options.Rule]] = {}
    MEMORY: ClassVar[Mapping[str, float | str]] = {}  # scalars and their first values
    wanted: tuple[str, ...] = ()  # sums that it uses and the motion measures
    sums: tuple[str, ...] = ()  # sums that it measures itself
    buffers: tuple[str, ...] = ()  # tensors that it keeps per parameter, zeros at first
    counters: tuple[str, ...] = ()  # step counters on the host

    def watch(self, loss: Tensor, optimizer: Any) -> Memory:
        """Measure on the graph of a watched loss, and return named 0-dim tensors."""
        return {}

    def collect(self, watched: list[Watched], owner: str) -> Memory:
        """Return this rank's measurements for the step, from its watched losses."""
        return {}

    def learn(self, key: str, value: Tensor, memory: Memory) -> Memory:
        """Return the scalars that a measurement's mean changes, also on a skipped step."""
        return {key: torch.where(torch.isfinite(value), value, memory[key])}

    def measure(self, bucket: Bucket, now: Now) -> list[Tensor]:
        """Return the limit's own sums over a bucket, each 0-dim."""
        return []

    def count(self, options: Options, measured: Memory) -> None:
        """Advance the counters after a step with these measurements."""

    def bound(self, loss: Tensor, sums: Sums, now: Now) -> Tensor:
        """Return the largest step that the limit allows, 0-dim, from all ranks' loss and sums.

        A limit writes its new scalars to ``now.memory``.
        """
        raise NotImplementedError

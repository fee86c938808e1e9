"""What every flow and every method returns: a path with its times, losses and cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from corridor.flows.space import Space


class Event(NamedTuple):
    """Something met on the way: ``kind`` is kink or exit, ``time`` when."""

    time: float
    kind: str


@dataclass(frozen=True)
class Trajectory:
    """A path through parameter space.

    Attributes:
        times: [k], float64, the first one 0.
        points: [k, *shape] for a start of one tensor, else k lists of tensors; the first is the
            start.
        losses: [k], float64.
        stopped: why it ended: "time" or "steps" (all that were asked for), "minimum" (a critical
            point, or a kink from which no way leads down), "kink" (the flow would slide along it),
            "left the domain", "not finite" or "budget".
        method: what made it.
        gradients: gradients of the loss that it cost; a product with the Hessian counts as two.
        step_sizes: the time steps taken, float64.
        events: kinks crossed and domains left, in order of time.
        error: for methods that estimate it, the distance to the exact path at each time, [k].
    """

    times: Tensor
    points: Any
    losses: Tensor
    stopped: str
    method: str
    gradients: int
    step_sizes: Tensor
    events: tuple[Event, ...] = ()
    error: Tensor | None = None
    _space: Space | None = field(default=None, repr=False)
    _dense: Callable[[float], Tensor] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def end(self) -> Any:
        """The last point."""
        return self.points[-1]

    @property
    def exit_time(self) -> float | None:
        """When the path first met a kink or the domain's edge, None if it never did."""
        return self.events[0].time if self.events else None

    def at(self, time: float) -> Any:
        """The point at a time.

        Flows made with ``dense=True`` are read between their steps; other paths at the times they
        hold only.

        Raises:
            ValueError: the path has no point there.
        """
        end = float(self.times[-1])
        slack = 1e-12 * max(1.0, end)
        if not -slack <= time <= end + slack:
            raise ValueError(
                f"time must lie between 0 and {end:g}, where the path ended ({self.stopped}), "
                f"got {time:g}"
            )
        near = int((self.times - time).abs().argmin())
        if abs(float(self.times[near]) - time) <= slack:
            return self.points[near]
        if self._dense is None or self._space is None:
            raise ValueError(
                f"the path holds no point at time {time:g}; ask for it by at=[{time:g}], or for a "
                "path that can be read anywhere by dense=True"
            )
        return self._space.unpack(self._dense(time))

    def flat(self) -> Tensor:
        """All points as rows, [k, n]."""
        if isinstance(self.points, Tensor):
            return self.points.reshape(len(self.times), -1)
        return torch.stack([torch.cat([t.reshape(-1) for t in point]) for point in self.points])


def assemble(
    space: Space,
    times: Sequence[float],
    flats: Sequence[Tensor],
    losses: Sequence[float],
    **rest: Any,
) -> Trajectory:
    """A trajectory from flat vectors."""
    steps = rest.pop("step_sizes", None)
    if steps is None:
        steps = [b - a for a, b in pairwise(times)]
    return Trajectory(
        times=torch.tensor(times, dtype=torch.float64),
        points=space.stack(flats),
        losses=torch.tensor(losses, dtype=torch.float64),
        step_sizes=torch.tensor(steps, dtype=torch.float64),
        _space=space,
        **rest,
    )

"""Store a path through parameter space with its times, losses and cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from corridor.flows.space import FlatLoss, flatten, number

Progress: TypeAlias = Callable[[float, int, float], object]


class Event(NamedTuple):
    """Name a kink or an edge of the domain that a path met."""

    time: float
    kind: str  # "kink", or "exit" for an edge


@dataclass(frozen=True)
class Trajectory:
    """Store a path through parameter space.

    Attributes:
        times: [k], float64. The first time is 0.
        points: [k, *shape] for a start of one tensor, else k lists of tensors, from the start on.
        losses: [k], float64.
        stopped: reason for the end. "time" and "steps" mean a complete path, "minimum" a critical
            point or a kink without a descent direction, and "kink" a kink along which the exact
            flow would slide. The other reasons are "left the domain", "not finite" and "budget".
        method: name of the method.
        gradients: number of gradients computed. A product with the Hessian counts as two.
        step_sizes: time steps taken, float64.
        events: kinks crossed and exits from the domain, in order of time.
        error: estimated distance from the exact path at each time, [k], None without an estimate.
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
    _dense: Callable[[float], Any] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def end(self) -> Any:
        """Return the last point."""
        return self.points[-1]

    @property
    def exit_time(self) -> float | None:
        """Return the time of the first event, None without events."""
        return self.events[0].time if self.events else None

    def at(self, time: float | Sequence[float] | Tensor) -> Any:
        """Return the point at a time, or the points at several times in the form of `points`.

        A flow made with ``dense=True`` has a point at every time up to its end. Other paths have
        points at `times` only, and raise a ValueError for other times.
        """
        if isinstance(time, Sequence) or getattr(time, "ndim", 0):
            points = [self.at(t) for t in torch.as_tensor(time, dtype=torch.float64).tolist()]
            return torch.stack(points) if isinstance(self.points, Tensor) and points else points
        time, end = number("time", time), float(self.times[-1])
        # Times are sums of steps, so rounding moves them by a few units in the last place.
        slack = 1e-12 * max(1.0, abs(end))
        if not min(0.0, end) - slack <= time <= max(0.0, end) + slack:
            advice = f"the path ended there ({self.stopped}), follow it for longer"
            raise ValueError(f"time must be between 0 and {end:g}, got {time:g}; {advice}")
        near = int((self.times - time).abs().argmin())
        if abs(float(self.times[near]) - time) <= slack:
            return self.points[near]
        if self._dense is None:
            advice = f"make the path with at=[{time:g}] or dense=True"
            raise ValueError(f"time must be one of the path's times, got {time:g}; {advice}")
        return self._dense(time)

    def flat(self) -> Tensor:
        """Return all points as rows, [k, n]."""
        return torch.stack([flatten(point) for point in self.points])


class Path:
    """Collect the points of a path, beginning with the start of a loss."""

    def __init__(self, flat_loss: FlatLoss, method: str) -> None:
        self.flat_loss, self.method = flat_loss, method
        self.times, self.flats, self.losses = [], [], []
        self.events: list[Event] = []
        self.add(0.0, flat_loss.start)

    def add(self, time: float, flat: Tensor, loss: float | None = None) -> None:
        """Append the flat vector at a time, and its loss unless given."""
        self.times.append(time)
        self.flats.append(flat)
        self.losses.append(self.flat_loss.number(flat) if loss is None else loss)

    def trajectory(self, stopped: str, steps: Sequence[float] | None = None) -> Trajectory:
        """Return the path so far; its step sizes are the differences of its times unless given."""
        times = torch.tensor(self.times, dtype=torch.float64)
        points = [self.flat_loss.unpack(flat) for flat in self.flats]
        return Trajectory(
            times,
            torch.stack(points) if self.flat_loss.single else points,
            torch.tensor(self.losses, dtype=torch.float64),
            stopped,
            self.method,
            self.flat_loss.gradients,
            times.diff() if steps is None else torch.tensor(steps, dtype=torch.float64),
            tuple(self.events),
        )

"""Measure how far two paths are apart at equal times."""

from dataclasses import dataclass

import torch
from torch import Tensor

from corridor.flows.integrate import gradient_flow
from corridor.flows.space import Loss, flatten
from corridor.flows.trajectory import Trajectory


@dataclass(frozen=True)
class Drift:
    """Store the distances between two paths.

    Attributes:
        times: times of the comparison, [k].
        distance: ``||theta_1(t) - theta_2(t)||``, [k].
        relative: distance divided by the second path's length up to that time, [k]; 0 at time 0.
            The length of a path without ``dense=True`` is the sum of the chords of its points.
        gradients: number of gradients that the second path cost.
    """

    times: Tensor
    distance: Tensor
    relative: Tensor
    gradients: int


def drift(
    path: Trajectory,
    other: Trajectory | Loss,
    *,
    tolerance: float = 1e-9,
    max_gradients: int = 100_000,
) -> Drift:
    """Return the distance of a path from a gradient flow, or from another path, at equal times.

    Args:
        path: path of gradient descent, CLR, the heavy ball or another method, with a step.
        other: loss whose gradient flow is computed from the start of `path`, or a second path
            with points at the times of `path`. The comparison runs up to the end of the other path.
        tolerance: relative error allowed in each step of the computed flow (default: 1e-9).
        max_gradients: maximum number of gradients for the computed flow (default: 100,000).

    Example:
        >>> import torch
        >>> from corridor.flows import gradient_descent
        >>> loss = lambda x: 0.5 * x.square().sum()
        >>> path = gradient_descent(loss, torch.ones(1, dtype=torch.float64), 0.1, 1)
        >>> round(float(drift(path, loss).distance[-1]), 6)  # exp(-0.1) - 0.9
        0.004837
    """
    times, spent = path.times, 0
    if not isinstance(other, Trajectory):
        start, end = path.points[0], float(times[-1])
        if len(path) < 2:
            raise ValueError(f"path must have a length, got {len(path)} point; add steps")
        other = gradient_flow(other, start, end, tolerance, dense=True, max_gradients=max_gradients)
        spent = other.gradients
        # The flow can end in a minimum or on a kink before the path does.
        times = times[times.abs() <= abs(float(other.times[-1]))]
    ours = path.flat()[: len(times)].double()
    theirs = _rows(other, times)
    distance = (ours - theirs).norm(dim=1).cpu()
    length = _lengths(other, times)
    # At time 0 both paths are at the start and the length is 0.
    relative = torch.where(length > 0.0, distance / length, torch.zeros_like(length))
    return Drift(times, distance, relative, spent)


def _rows(path: Trajectory, times: Tensor) -> Tensor:
    return torch.stack([flatten(path.at(float(t))) for t in times]).double()


def _lengths(path: Trajectory, times: Tensor) -> Tensor:
    """Return the length of a path up to each of its times, by chords extrapolated at order 2."""
    if path._dense is None:
        marks, rows = path.times, path.flat().double()
        pieces = (rows[1:] - rows[:-1]).norm(dim=1)
    else:
        marks = torch.cat([path.times, times])
        marks = marks[marks.abs().argsort()]
        quarters = marks[:-1, None] + marks.diff()[:, None] * torch.arange(4) / 4.0
        rows = _rows(path, torch.cat([quarters.flatten(), marks[-1:]]))
        fine = (rows[1:] - rows[:-1]).norm(dim=1).reshape(-1, 4).sum(1)
        coarse = (rows[2::2] - rows[:-2:2]).norm(dim=1).reshape(-1, 2).sum(1)
        pieces = (4.0 * fine - coarse) / 3.0
    length = torch.cat([pieces.new_zeros(1), pieces.cumsum(0)]).cpu()
    return length[(times[:, None] - marks).abs().argmin(1)]

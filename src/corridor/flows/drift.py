"""How far two paths have drifted apart at equal times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corridor.flows.integrate import gradient_flow
from corridor.flows.space import Loss
from corridor.flows.trajectory import Trajectory


@dataclass(frozen=True)
class Drift:
    """Distances between two paths.

    Attributes:
        times: [k], those at which both were compared.
        distance: [k], ``||theta_1(t) - theta_2(t)||``.
        relative: [k], the distance over the length of the second path up to then; 0 at time 0.
        gradients: what the comparison cost beyond the first path.
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
    """The distance of a path from another at equal times.

    Args:
        path: of gradient descent, CLR, the heavy ball, or any other method.
        other: a path that holds the same times, or a loss, whose gradient flow from the path's
            start is then computed and is the other path.
        tolerance: of that flow.
        max_gradients: budget of that flow.

    Returns:
        Distances at the times of the path up to where the other one ends.

    Raises:
        ValueError: the flow ends at once, or a time is missing from the other path.

    Example:
        >>> import torch
        >>> from corridor.flows import gradient_descent
        >>> loss = lambda x: 0.5 * x.square().sum()
        >>> path = gradient_descent(loss, torch.ones(1, dtype=torch.float64), 0.1, 1)
        >>> round(float(drift(path, loss).distance[-1]), 6)  # exp(-0.1) - 0.9
        0.004837
    """
    times = path.times
    spent = 0
    if not isinstance(other, Trajectory):
        start = path.points[0]
        end = float(times[-1])
        if not end > 0.0:
            raise ValueError("the path has no length to compare along")
        other = gradient_flow(other, start, end, tolerance, dense=True, max_gradients=max_gradients)
        spent = other.gradients
        times = times[times <= float(other.times[-1])]
    ours = path.flat()[: len(times)].double()
    theirs = torch.stack([_row(other.at(float(t))) for t in times]).double()
    distance = (ours - theirs).norm(dim=1).cpu()
    steps = (theirs[1:] - theirs[:-1]).norm(dim=1).cpu()
    length = torch.cat([torch.zeros(1, dtype=torch.float64), steps.cumsum(0)])
    relative = torch.where(length > 0.0, distance / length, torch.zeros_like(length))
    return Drift(times, distance, relative, spent)


def _row(point: Tensor | list[Tensor]) -> Tensor:
    parts = [point] if isinstance(point, Tensor) else point
    return torch.cat([part.reshape(-1) for part in parts])

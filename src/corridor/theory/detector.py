"""Decide if a region is a corridor, from Hg and from short steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corridor import _tree
from corridor.flows.space import FlatLoss, Loss
from corridor.flows.trajectory import Trajectory
from corridor.geometry.lanczos import lanczos
from corridor.surfaces import Verdict
from corridor.surfaces.base import judge

SCALES = (1e-2, 1e-3, 1e-4, 1e-5)  # of steps, relative to the length on which g may change


@dataclass(frozen=True)
class Detection:
    """Store the verdict on a region, true for a corridor, with its evidence.

    All numbers are scale-free, and 0 in a corridor.

    Attributes:
        verdict: corridor, weak corridor, not a corridor, or undecided.
        crooked: largest ``||Hg|| / (||H|| ||g||)``, at most 1.
        bent: largest ``||(Hg)_perp|| / (||H|| ||g||)``. The perpendicular part bends flow lines.
        secant: largest change of g over steps, in the unit of `crooked`. At each point the step
            is the one of four sizes that changes g least, because longer steps may meet a kink.
        points: number of points, neighbors included.
        skipped: number of points with a zero gradient, a non-finite loss or a kink nearby.
    """

    verdict: Verdict
    crooked: float
    bent: float
    secant: float
    points: int
    skipped: int

    def __bool__(self) -> bool:
        return self.verdict is Verdict.CORRIDOR


def detect(
    loss: Loss, points: Tensor | Sequence[Tensor], *, beside: int = 2, seed: int = 0
) -> Detection:
    """Return the verdict on a loss around some points.

    ``Hg = 0`` at critical points, which are skipped, or on a line proves nothing (S6 on the theory
    pages), so the function tests random neighbors. The change of g over steps of four sizes also
    judges losses whose second derivatives are wrong (S5). A jump of g at a kink does not count.

    Args:
        loss: function of a point that returns a scalar tensor.
        points: at least one point, [k, *shape]. Sharp verdicts need float64.
        beside: number of random neighbors per point (default: 2).
        seed: seed of the neighbors (default: 0).

    Example:
        >>> from corridor.surfaces import Cone, Saddle
        >>> x = Cone().sample(5)
        >>> detect(Cone(), x).verdict.value, detect(Saddle(), x).verdict.value
        ('corridor', 'not a corridor')
    """
    given = list(points)
    if not given:
        raise ValueError("points must hold at least one point, got none; add a point")
    generator = _tree.seeded(seed)
    rows = torch.stack([p.detach().reshape(-1) for p in given]).double()
    spread = float((rows - rows.mean(0)).norm(dim=1).mean())
    size = spread or float(rows.norm(dim=1).mean()) or 1.0
    numbers = []
    for point in given:
        flat_loss = FlatLoss(loss, point)
        x = flat_loss.start
        room = flat_loss.margin(x)
        # Neighbors stay within the ball without kinks, because a kink is not evidence on Hg.
        reach = 0.01 * size if room is None else min(0.01 * size, 0.5 * max(room, 0.0))
        draws = torch.randn(beside, x.numel(), generator=generator, dtype=torch.float64).to(x)
        flats = [x, *(x + reach * d / d.norm() for d in draws)]
        numbers += [_numbers(flat_loss, flat, size) for flat in flats]
    found = [row for row in numbers if row is not None]
    skipped = len(numbers) - len(found)
    nothing = [(math.nan,) * 3]  # judged as undecided
    crooked, bent, secant = (max(column) for column in zip(*(found or nothing), strict=True))
    verdict = judge(max(crooked, secant), bent, torch.finfo(given[0].dtype).eps)
    return Detection(verdict, crooked, bent, secant, len(numbers), skipped)


def _numbers(flat_loss: FlatLoss, x: Tensor, size: float) -> tuple[float, float, float] | None:
    """Return crooked, bent and secant at a point, None where they are undefined."""
    g, product = flat_loss.product(x)
    speed = float(g.norm())
    if not (torch.isfinite(g).all() and speed > 0.0):
        return None
    Hg, room = product(g), flat_loss.margin(x)
    # In a corridor Hg = 0, so the Krylov space of g alone would contain no curvature.
    _, T = lanczos(product, torch.ones_like(x) + 0.1 * g / speed, min(12, x.numel()))
    curvature = max(float(torch.linalg.eigvalsh(T).abs().max()), float(Hg.norm()) / speed)
    if not math.isfinite(curvature) or (room is not None and not room > 0.0):
        return None
    # A curvature below this unit bends the flow by less than `_verdict` counts as a bend.
    unit = max(curvature, torch.finfo(x.dtype).eps ** 0.25 * speed / size)
    crooked = float(Hg.norm()) / (unit * speed)
    bent = float((Hg - g * (g @ Hg) / (g @ g)).norm()) / (unit * speed)
    length, changes, secants = min(speed / unit, size), [], []
    for scale in SCALES:
        step = scale * length if room is None else min(scale * length, 0.5 * room)
        moved = flat_loss.gradient(x - step * g / speed)
        changes.append(float((moved - g).norm()) / speed)
        secants.append(changes[-1] * (length / step))
    # A smooth change shrinks with its step, and a jump keeps its size.
    jumps = changes[-1] > max(0.1 * changes[0], torch.finfo(x.dtype).eps ** 0.5)
    return None if jumps else (crooked, bent, min(secants))


@dataclass(frozen=True)
class Straightness:
    """Store how straight a path is and how constant its speed is.

    Attributes:
        deviation: largest distance of a point from the chord, divided by the chord's length.
        speed_variation: largest relative deviation of the speed from its mean.
    """

    deviation: float
    speed_variation: float


def straightness(path: Trajectory) -> Straightness:
    """Return the deviation of a path from its chord, and the variation of its speed.

    The ends of the path must differ. The speed is computed between successive points.

    Example:
        >>> import torch
        >>> from corridor.flows import gradient_flow
        >>> from corridor.surfaces import Cone
        >>> x = torch.tensor([3.0, 4.0], dtype=torch.float64)
        >>> path = gradient_flow(Cone(), x, 4.0, at=[0.0, 1.0, 2.0, 4.0])
        >>> straightness(path).deviation < 1e-12
        True
    """
    x = path.flat().double()
    chord, away = x[-1] - x[0], x - x[0]
    length = float(chord.norm())
    if not length > 0.0:
        raise ValueError("path must have two different ends, got a path of length 0; add steps")
    across = away - torch.outer(away @ chord, chord) / length**2
    times = path.times.to(x.device)
    speeds = (x[1:] - x[:-1]).norm(dim=1) / (times[1:] - times[:-1])
    variation = float((speeds - speeds.mean()).abs().max() / speeds.mean())
    return Straightness(float(across.norm(dim=1).max()) / length, variation)

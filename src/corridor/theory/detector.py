"""Is this a corridor? Decided by Hg and by steps of two sizes, at points and beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from corridor.flows.space import FlatLoss, Loss, Space
from corridor.flows.trajectory import Trajectory
from corridor.geometry.lanczos import lanczos
from corridor.surfaces import Verdict

SCALES = (1e-2, 1e-3)


@dataclass(frozen=True)
class Detection:
    """The verdict on a region, and its evidence; all numbers are scale-free and 0 in a corridor.

    Attributes:
        verdict: corridor, weak corridor, not a corridor, or undecided.
        crooked: largest ``||Hg|| / (||H|| ||g||)``, at most 1.
        bent: largest ``||(Hg)_perp|| / (||H|| ||g||)``: the part that turns the flow lines.
        secant: the largest change of g over steps of two sizes, in the same unit.
        points: how many were looked at, those beside the given ones included.
        skipped: how many of them were critical, or their loss not finite.
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
    """Whether a loss is a corridor about some points.

    ``Hg = 0`` at single points proves nothing: it holds at critical points, which are skipped, and
    on sets that are no neighbourhoods, so that points beside the given ones are tried too
    (subtlety S6). Agreement of gradient descent with the flow for one step size proves nothing
    either (S5): Hg itself is taken, and the change of g over steps of two sizes, which also sees
    bends that lie in kinks, where second derivatives are blind.

    Args:
        loss: of a tensor shaped like a point; returns a scalar.
        points: [k, *shape] in float64 for sharp verdicts; float32 blurs them.
        beside: random points to try near each.
        seed: of these.

    Raises:
        ValueError: there are no points.

    Example:
        >>> from corridor.surfaces import Cone, Saddle
        >>> x = Cone().sample(5)
        >>> detect(Cone(), x).verdict.value, detect(Saddle(), x).verdict.value
        ('corridor', 'not a corridor')
    """
    given = list(points)
    if not given:
        raise ValueError("points must hold at least one point")
    generator = torch.Generator().manual_seed(seed)
    spread = torch.stack([p.detach().reshape(-1) for p in given]).double()
    size = float((spread - spread.mean(0)).norm(dim=1).mean()) if len(given) > 1 else 0.0
    size = size or float(spread.norm(dim=1).mean()) or 1.0
    numbers: list[tuple[float, float, float]] = []
    looked = 0
    for point in given:
        flat_loss = FlatLoss(loss, Space(point))
        x = flat_loss.space.start
        for flat in [x, *_beside(flat_loss, x, size, beside, generator)]:
            looked += 1
            found = _numbers(flat_loss, flat, size)
            if found is not None:
                numbers.append(found)
    eps = torch.finfo(given[0].dtype).eps
    if not numbers:
        return Detection(Verdict.UNDECIDED, math.nan, math.nan, math.nan, looked, looked)
    crooked, bent, secant = (max(column) for column in zip(*numbers, strict=True))
    verdict = _verdict(crooked, bent, secant, eps)
    return Detection(verdict, crooked, bent, secant, looked, looked - len(numbers))


def _verdict(crooked: float, bent: float, secant: float, eps: float) -> Verdict:
    """Rounding alone gives numbers below eps^0.6; a bend worth the name exceeds eps^0.25."""
    low, high = eps**0.6, eps**0.25
    if max(crooked, secant) < low:
        return Verdict.CORRIDOR
    if max(crooked, secant) < high:
        return Verdict.UNDECIDED
    return Verdict.WEAK if bent < low else Verdict.NEITHER


def _beside(
    flat_loss: FlatLoss, x: Tensor, size: float, number: int, generator: torch.Generator
) -> list[Tensor]:
    room = flat_loss.margin(x)
    reach = 0.01 * size if room is None else min(0.01 * size, 0.5 * max(room, 0.0))
    draws = torch.randn(number, x.numel(), generator=generator, dtype=torch.float64).to(x)
    return [x + reach * d / d.norm() for d in draws]


def _numbers(flat_loss: FlatLoss, x: Tensor, size: float) -> tuple[float, float, float] | None:
    """Crooked, bent and secant numbers at a point; None where they have no meaning."""
    g, product = flat_loss.product(x)
    speed = float(g.norm())
    if not (torch.isfinite(g).all() and speed > 0.0):
        return None
    Hg = product(g)
    _, T = lanczos(product, torch.ones_like(x) + 0.1 * g / speed, min(12, x.numel()))
    curvature = float(torch.linalg.eigvalsh(T).abs().max())
    curvature = max(curvature, float(Hg.norm()) / speed)
    if not math.isfinite(curvature):
        return None
    flat = torch.finfo(x.dtype).eps ** 0.25 * speed / size  # a bend not worth the name
    unit = max(curvature, flat)
    crooked = float(Hg.norm()) / (unit * speed)
    bent = float((Hg - g * (g @ Hg) / (g @ g)).norm()) / (unit * speed)
    length = min(speed / unit, size)
    room = flat_loss.margin(x)
    secant = 0.0
    for scale in SCALES:
        step = scale * length if room is None else min(scale * length, 0.5 * room)
        moved = flat_loss.gradient(x - step * g / speed)
        secant = max(secant, float((moved - g).norm()) / speed * (length / step))
    return crooked, bent, secant


@dataclass(frozen=True)
class Straightness:
    """How straight a path is and how constant its speed.

    Attributes:
        deviation: largest distance of a point from the chord, over the chord's length.
        speed_variation: largest relative deviation of the speed from its mean.
    """

    deviation: float
    speed_variation: float


def straightness(path: Trajectory) -> Straightness:
    """Distance from the line between a path's ends, and the spread of its speed.

    Args:
        path: of at least two points; its speed is taken between neighbours.

    Raises:
        ValueError: the path does not move.

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
    chord = x[-1] - x[0]
    length = float(chord.norm())
    if not length > 0.0:
        raise ValueError("the path does not move, so that it has no direction")
    away = x - x[0]
    across = away - torch.outer(away @ chord, chord) / length**2
    times = path.times.to(x.device)
    speeds = (x[1:] - x[:-1]).norm(dim=1) / (times[1:] - times[:-1])
    variation = float((speeds - speeds.mean()).abs().max() / speeds.mean())
    return Straightness(float(across.norm(dim=1).max()) / length, variation)

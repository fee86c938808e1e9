"""Surfaces glued from corridors (example 2.6, figure 1b): the lower or upper envelope."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from corridor.surfaces.base import Domain, Surface, Verdict
from corridor.surfaces.distance import DistanceTo
from corridor.surfaces.linear import Linear
from corridor.surfaces.shapes import Curve, Points, Segment


class Glued(Surface):
    """The minimum (or maximum) of surfaces: continuous, and each piece is one of them.

    Of corridors it is a corridor off the seams, where two pieces are equal, with one speed a
    piece. Glued surfaces may be glued again.

    Args:
        pieces: surfaces of one dimension.
        highest: take the maximum instead of the minimum.
        f_star: the infimum, where it is known better than the pieces tell: that of a maximum may
            lie above the highest of theirs.

    Raises:
        ValueError: fewer than two pieces, or pieces that live in different spaces.

    Example:
        >>> import torch
        >>> roof = Glued([Linear([1.0, 0.0]), Linear([-2.0, 0.0], 3.0)])
        >>> x = torch.tensor([[0.5, 0.0], [2.0, 0.0]])
        >>> roof(x), roof.piece(x)
        (tensor([ 0.5000, -1.0000]), tensor([0, 1]))
    """

    def __init__(
        self, pieces: Sequence[Surface], *, highest: bool = False, f_star: float | None = None
    ) -> None:
        if len(pieces) < 2:
            raise ValueError(f"Glued takes at least two pieces, got {len(pieces)}")
        dimensions = {p.dimension for p in pieces if p.dimension is not None}
        if len(dimensions) > 1:
            raise ValueError(f"pieces must live in one space, got dimensions {sorted(dimensions)}")
        self.pieces, self.highest = list(pieces), highest
        self.dimension = dimensions.pop() if dimensions else None
        corridors = all(piece.is_corridor for piece in pieces)
        self.verdict = Verdict.CORRIDOR if corridors else Verdict.NEITHER
        speeds = {piece.speed for piece in pieces}
        self.speed = speeds.pop() if len(speeds) == 1 else None
        bound = (max if highest else min)(piece.f_star for piece in pieces)
        self.f_star = bound if f_star is None else f_star
        self.domain = Domain("off the seams, where two pieces are equal", self._margin)
        if all(piece.expression for piece in pieces):
            inside = ", ".join(str(piece.expression) for piece in pieces)
            self.expression = f"{'max' if highest else 'min'}({inside})"

    @property
    def steepest(self) -> float:
        """That of the steepest piece."""
        return max(piece.steepest for piece in self.pieces)

    def _values(self, x: Tensor) -> Tensor:
        return torch.stack([piece.value(x) for piece in self.pieces], dim=-1)

    def value(self, x: Tensor) -> Tensor:
        """The lowest (or highest) piece's value, with that piece's derivatives."""
        values = self._values(x)
        return values.gather(-1, self.piece(x)[..., None])[..., 0]

    def piece(self, x: Tensor) -> Tensor:
        """Index of the piece that makes up the surface at points [..., n], shape [...]."""
        with torch.no_grad():
            values = self._values(x)
        return values.argmax(-1) if self.highest else values.argmin(-1)

    def speed_at(self, x: Tensor) -> Tensor:
        """``||g||`` at points [..., n], NaN on pieces without a speed, shape [...]."""
        speeds = [piece.speed if piece.speed is not None else torch.nan for piece in self.pieces]
        return torch.tensor(speeds, dtype=x.dtype, device=x.device)[self.piece(x)]

    def _margin(self, x: Tensor) -> Tensor:
        """Room to the seams, by the slopes, and to the kinks of the piece that is on top."""
        with torch.no_grad():
            values = self._values(x)
            margins = torch.stack([p.domain.margin(x) for p in self.pieces], dim=-1)
        index = self.piece(x)[..., None]
        gaps = (values - values.gather(-1, index)).abs()
        steep = torch.tensor([p.steepest for p in self.pieces], dtype=x.dtype, device=x.device)
        room = gaps / (steep + steep[index])
        room = room.scatter(-1, index, torch.inf).amin(-1)
        return torch.minimum(room, margins.gather(-1, index)[..., 0])


def flower(petals: int = 5, depth: float = 0.18, radius: float = 1.0) -> Curve:
    """A wavy closed curve, ``r = radius (1 + depth cos(petals t))``: the foot of a wavy cone."""

    def point(t: Tensor) -> Tensor:
        r = radius * (1.0 + depth * torch.cos(petals * t))
        return torch.stack([r * torch.cos(t), r * torch.sin(t)], dim=-1)

    return Curve(point)


class _Moved(Surface):
    """A surface carried elsewhere by a translation, which leaves all its geometry as it is."""

    def __init__(self, surface: Surface, by: Sequence[float]) -> None:
        self.inner, self.by = surface, torch.tensor(by, dtype=torch.float64)
        self.dimension, self.verdict = len(by), surface.verdict
        self.speed, self.f_star = surface.speed, surface.f_star
        self.domain = Domain(
            surface.domain.words + ", moved", lambda x: surface.domain.margin(x - self.by.to(x))
        )

    def value(self, x: Tensor) -> Tensor:
        """The surface at ``x - by``."""
        return self.inner.value(x - self.by.to(x))


def landscape() -> Glued:
    """The glued surface of figure 1b: wavy cones, up and down, ruled pieces and a plane.

    Into a tilted plane a convex wavy cone is cut (a pit), whose bottom is a steeper round cone, and
    a trough about a segment; a concave wavy cone (a hill) and a roof over a segment rise from it.
    All pieces are distances to sets, so each is a corridor with a slope of its own.

    Example:
        >>> surface = landscape()
        >>> surface.is_corridor, float(surface.domain.margin(torch.tensor([3.0, -2.5]))) > 0
        (True, True)
    """
    plane = Linear([0.35, 0.15], 1.6)
    pit = _Moved(DistanceTo(flower(3, 0.15), slope=0.9, level=0.75, absolute=False), [-1.1, -0.5])
    well = DistanceTo(Points([[-1.1, -0.5]]), slope=1.5, level=-0.55)
    trough = DistanceTo(Segment([0.9, -2.3], [2.4, -1.5]), slope=0.7, level=0.9)
    hill = DistanceTo(flower(3, 0.12, 0.8), slope=-1.5, level=2.4, absolute=False)
    roof = DistanceTo(Segment([-2.6, 2.2], [-0.9, 2.5]), slope=-1.3, level=2.1)
    ground = Glued([plane, pit, well, trough])
    return Glued([ground, _Moved(hill, [1.6, 1.1]), roof], highest=True)

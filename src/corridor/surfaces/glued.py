"""Glue surfaces together (example 2.6, figure 1b) by their minimum or maximum."""

from collections.abc import Sequence

import torch
from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface
from corridor.surfaces.curves import flower
from corridor.surfaces.distance import DistanceTo, Points, Segment
from corridor.surfaces.linear import Linear


class Glued(Surface):
    """Take the minimum (or maximum) of surfaces, which is continuous.

    The seams are the points where two pieces are equal. Glued corridors are a corridor off the
    seams, with one speed per piece. Glued surfaces can be pieces again. The margin is an estimate
    of first order, which can be too large, if no bound of a piece's slope is known.

    Args:
        pieces: two or more surfaces of one dimension.
        highest: True for the maximum. Default: False.
        f_star: the infimum. Default: the smallest infimum of the pieces. For a maximum it is the
            largest infimum, which is only a lower bound.

    Example:
        >>> roof = Glued([Linear([1.0, 0.0]), Linear([-2.0, 0.0], 3.0)])
        >>> x = torch.tensor([[0.5, 0.0], [2.0, 0.0]])
        >>> roof(x), roof.piece(x)
        (tensor([ 0.5000, -1.0000]), tensor([0, 1]))
    """

    def __init__(
        self, pieces: Sequence[Surface], *, highest: bool = False, f_star: float | None = None
    ) -> None:
        if len(pieces) < 2:
            raise ValueError(f"pieces must be at least two surfaces, got {len(pieces)}")
        dimensions = {p.dimension for p in pieces if p.dimension is not None}
        if len(dimensions) > 1:
            raise ValueError(f"pieces must have equal dimensions, got {sorted(dimensions)}")
        self.pieces, self.highest = list(pieces), highest
        self.dimension = dimensions.pop() if dimensions else None
        self.verdict = max((piece.verdict for piece in pieces), key=list(Verdict).index)
        speeds = {piece.speed for piece in pieces}
        self.speed = speeds.pop() if len(speeds) == 1 else None
        bound = (max if highest else min)(piece.f_star for piece in pieces)
        self.f_star = bound if f_star is None else f_star
        exact = self.steepest < torch.inf and all(piece.domain.exact for piece in pieces)
        self.domain = Domain("off the seams, where two pieces are equal", self._margin, exact)
        if all(piece.expression for piece in pieces):
            inside = ", ".join(str(piece.expression) for piece in pieces)
            self.expression = f"{'max' if highest else 'min'}({inside})"

    @property
    def steepest(self) -> float:
        return max(piece.steepest for piece in self.pieces)

    def _values(self, x: Tensor) -> Tensor:
        return torch.stack([piece.value(x) for piece in self.pieces], dim=-1)

    def value(self, x: Tensor) -> Tensor:
        # min() would mix the gradients of pieces that are equal at a seam.
        return self._values(x).gather(-1, self.piece(x)[..., None])[..., 0]

    def piece(self, x: Tensor) -> Tensor:
        """Return the index of the piece to which points [..., n] belong, shape [...]."""
        with torch.no_grad():
            values = self._values(x)
        return values.argmax(-1) if self.highest else values.argmin(-1)

    def speed_at(self, x: Tensor) -> Tensor:
        """Return ``||g||`` at points [..., n], NaN on pieces without a speed, shape [...]."""
        speeds = [torch.nan if piece.speed is None else piece.speed for piece in self.pieces]
        return torch.tensor(speeds, dtype=x.dtype, device=x.device)[self.piece(x)]

    def _margin(self, x: Tensor) -> Tensor:
        """Return the room to the seams, by the slopes, and to the kinks of the piece itself."""
        with torch.no_grad():
            values = self._values(x)
            margins = torch.stack([p.domain.margin(x) for p in self.pieces], dim=-1)
        index = self.piece(x)[..., None]
        gaps = (values - values.gather(-1, index)).abs()
        steep = torch.stack([_steepness(p, x) for p in self.pieces], dim=-1)
        room = (gaps / (steep + steep.gather(-1, index))).scatter(-1, index, torch.inf).amin(-1)
        return torch.minimum(room, margins.gather(-1, index)[..., 0])


def _steepness(piece: Surface, x: Tensor) -> Tensor:
    """Return the bound of ``||g||`` of a piece, or its value at x, an estimate of first order."""
    with torch.enable_grad():
        q = x.detach().requires_grad_()
        (g,) = torch.autograd.grad(piece.value(q).sum(), q, materialize_grads=True)
    here = g.flatten(x.dim() - piece.point_dims).norm(dim=-1)
    return here if piece.steepest == torch.inf else torch.full_like(here, piece.steepest)


def landscape() -> Glued:
    """Return the glued surface of figure 1b: a tilted plane with two valleys, a hill and a roof."""
    plane = Linear([0.35, 0.15], 1.6)
    foot = flower(3, 0.15, center=(-1.1, -0.5))
    pit = DistanceTo(foot, slope=0.9, level=0.75, absolute=False)
    well = DistanceTo(Points([[-1.1, -0.5]]), slope=1.5, level=-0.55)
    trough = DistanceTo(Segment([0.9, -2.3], [2.4, -1.5]), slope=0.7, level=0.9)
    top = flower(3, 0.12, radius=0.8, center=(1.6, 1.1))
    hill = DistanceTo(top, slope=-1.5, level=2.4, absolute=False)
    roof = DistanceTo(Segment([-2.6, 2.2], [-0.9, 2.5]), slope=-1.3, level=2.1)
    return Glued([Glued([plane, pit, well, trough]), hill, roof], highest=True)

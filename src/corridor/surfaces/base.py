"""What a surface knows of itself: its value, its infimum, where it is smooth, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from corridor.proofs import Verdict


def everywhere(x: Tensor) -> Tensor:
    """The margin of a surface that is smooth on all of R^n."""
    return torch.full(x.shape[:-1], torch.inf, dtype=x.dtype, device=x.device)


@dataclass(frozen=True)
class Domain:
    """The open set on which a surface is smooth: no kinks, no edge.

    Attributes:
        words: the set, for people.
        margin: points [..., n] to [...], how far at least it is to the nearest kink or edge. It
            never exceeds that distance and grows no faster than the point moves, so that a ball
            of that radius is free of kinks; 0 on a kink, negative where the loss is undefined.
    """

    words: str = "all of R^n"
    margin: Callable[[Tensor], Tensor] = everywhere

    def __contains__(self, x: Tensor) -> bool:
        return bool((self.margin(x) > 0.0).all())


class Surface:
    """A loss on R^n whose geometry is known, written in torch for any batch shape and device.

    Subclasses give `value`, and set in ``__init__`` what differs from the defaults here.

    Attributes:
        f_star: infimum of the loss, -inf if it is unbounded.
        verdict: corridor, weak corridor or neither, on `domain`.
        speed: the constant ``||g||`` of a corridor; None where it differs from piece to piece.
        domain: where the loss is smooth.
        dimension: n, None where any n will do.
        point_dims: dimensions of one point's tensor, 2 for losses of matrices.
        expression: the loss as text in x, y, ... for `corridor.prove`, if it has a closed form.
    """

    f_star: float = 0.0
    verdict: Verdict = Verdict.NEITHER
    speed: float | None = None
    domain: Domain = Domain()
    dimension: int | None = None
    point_dims: int = 1
    expression: str | None = None

    def value(self, x: Tensor) -> Tensor:
        """The loss of points [..., n], shape [...]."""
        raise NotImplementedError

    @property
    def steepest(self) -> float:
        """Upper bound of ``||g||``, inf where none is known."""
        return torch.inf if self.speed is None else self.speed

    @property
    def is_corridor(self) -> bool:
        """Whether ``Hg = 0`` on the whole domain."""
        return self.verdict is Verdict.CORRIDOR

    def __call__(self, x: Tensor) -> Tensor:
        """The loss of points [..., n], shape [...].

        Raises:
            ValueError: the points have another dimension, or are not of a floating dtype.
        """
        return self.value(self.checked(x))

    def checked(self, x: Tensor) -> Tensor:
        """The points themselves, if they are points of this surface's space.

        Raises:
            ValueError: they are not.
        """
        name = type(self).__name__
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = f"dtype {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name} takes a tensor of floating dtype, got {got}")
        if x.dim() == 0 and self.dimension in (None, 1) and self.point_dims == 1:
            return x.reshape(1)
        if x.dim() < self.point_dims:
            raise ValueError(f"{name} takes matrices [..., m, k], got shape {tuple(x.shape)}")
        if self.dimension is not None and x.shape[-1] != self.dimension:
            raise ValueError(
                f"{name} lives in dimension {self.dimension}, got points of dimension {x.shape[-1]}"
            )
        return x

    def sample(
        self, count: int, *, dimension: int | None = None, spread: float = 2.0, seed: int = 0
    ) -> Tensor:
        """Random points of the domain, normal about the origin, clear of kinks.

        Args:
            count: how many.
            dimension: n, where the surface does not fix it; 2 by default.
            spread: standard deviation.
            seed: of the draw.

        Returns:
            float64 tensor [count, n], every point at least a hundredth of `spread` inside.

        Raises:
            ValueError: the domain is too thin to be met by chance.
        """
        shape = self._point_shape(dimension)
        generator = torch.Generator().manual_seed(seed)
        kept: list[Tensor] = []
        for _ in range(50):
            draw = torch.randn(4 * count, *shape, generator=generator, dtype=torch.float64)
            x = spread * draw
            kept.append(x[self.domain.margin(x) > 0.01 * spread])
            if sum(map(len, kept)) >= count:
                return torch.cat(kept)[:count]
        raise ValueError(f"too few random points lie in the domain of {type(self).__name__}")

    def _point_shape(self, dimension: int | None) -> tuple[int, ...]:
        return (self.dimension or dimension or 2,)


def gap(x: Tensor, center: Tensor) -> Tensor:
    """``x - center`` in the dtype and on the device of x."""
    return x - center.to(x)


def vector(values: object, name: str) -> Tensor:
    """A float64 vector from numbers or a tensor.

    Raises:
        ValueError: it is no vector of finite numbers.
    """
    out = torch.as_tensor(values, dtype=torch.float64)
    if out.dim() != 1 or not torch.isfinite(out).all():
        raise ValueError(f"{name} must be a vector of finite numbers, got {values!r}")
    return out


def norm(x: Tensor) -> Tensor:
    """``||x||_2`` over the last dimension, with a gradient of 0 rather than NaN at the origin."""
    return torch.linalg.vector_norm(x, dim=-1)

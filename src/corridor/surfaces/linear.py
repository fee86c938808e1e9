"""Linear pieces (example 2.2): the only corridors of dimension one."""

from __future__ import annotations

from torch import Tensor

from corridor.surfaces.base import Domain, Surface, Verdict, vector


class Linear(Surface):
    """``E = a . theta + b``: g = a, H = 0, one corridor without end.

    Args:
        slope: a, numbers [n].
        offset: b.

    Example:
        >>> import torch
        >>> plane = Linear([3.0, 4.0])
        >>> float(plane(torch.tensor([1.0, 1.0]))), plane.speed, plane.is_corridor
        (7.0, 5.0, True)
    """

    verdict = Verdict.CORRIDOR

    def __init__(self, slope: object = (1.0, 0.0), offset: float = 0.0) -> None:
        self.slope = vector(slope, "slope")
        self.offset = offset
        self.dimension = len(self.slope)
        self.speed = float(self.slope.norm())
        self.f_star = -float("inf") if self.speed else offset
        self.expression = _affine(self.slope, offset)

    def value(self, x: Tensor) -> Tensor:
        """``a . x + b``."""
        return x @ self.slope.to(x) + self.offset


class _Bent(Linear):
    """A linear function bent where it is zero."""

    f_star = 0.0

    def __init__(self, slope: object = (1.0,), offset: float = 0.0) -> None:
        super().__init__(slope, offset)
        if not self.speed:
            raise ValueError("slope must not be zero: the loss would have no kink")
        self.f_star = 0.0
        self.domain = Domain("where a . theta + b is not 0", self._distance)

    def _distance(self, x: Tensor) -> Tensor:
        return Linear.value(self, x).abs() / self.slope.norm().to(x)


class AbsoluteValue(_Bent):
    """``E = |a . theta + b|``; with the defaults ``|theta|`` on the line.

    Two half-spaces of slope ``||a||``, corridors that end at E = 0.

    Example:
        >>> import torch
        >>> float(AbsoluteValue()(torch.tensor([-2.0])))
        2.0
    """

    def __init__(self, slope: object = (1.0,), offset: float = 0.0) -> None:
        super().__init__(slope, offset)
        self.expression = f"abs({_affine(self.slope, offset)})"

    def value(self, x: Tensor) -> Tensor:
        """``|a . x + b|``."""
        return super().value(x).abs()


class Hinge(_Bent):
    """``E = max(0, a . theta + b)``: a slope that ends in a plain, where g = 0.

    On the plain every point is critical and the flow stands still, a corridor of speed 0.

    Example:
        >>> import torch
        >>> float(Hinge([1.0, 0.0], 1.0)(torch.tensor([2.0, 5.0])))
        3.0
    """

    def __init__(self, slope: object = (1.0,), offset: float = 0.0) -> None:
        super().__init__(slope, offset)
        self.speed = None
        self.expression = f"max(0, {_affine(self.slope, offset)})"

    @property
    def steepest(self) -> float:
        """``||a||``."""
        return float(self.slope.norm())

    def value(self, x: Tensor) -> Tensor:
        """``max(0, a . x + b)``."""
        return super().value(x).relu()


def variable_names(dimension: int) -> list[str]:
    """x, y, z for up to three variables, else x1, x2, ..."""
    return list("xyz"[:dimension]) if dimension <= 3 else [f"x{i + 1}" for i in range(dimension)]


def _affine(slope: Tensor, offset: float) -> str:
    names = variable_names(len(slope))
    terms = [f"{a!r}*{n}" for a, n in zip(slope.tolist(), names, strict=True) if a]
    return " + ".join([*terms, *([repr(float(offset))] if offset or not terms else [])])

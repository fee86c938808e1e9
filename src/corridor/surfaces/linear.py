"""Linear pieces (example 2.2): the only corridors of dimension one."""

from __future__ import annotations

from torch import Tensor

from corridor.proofs import Verdict
from corridor.surfaces.base import Domain, Surface, nonzero, variable_names, vector


class Linear(Surface):
    """Compute ``E = a . theta + b``: g = a and H = 0, one unbounded corridor.

    Args:
        slope: a, numbers [n]. Default: (1, 0).
        offset: b. Default: 0.

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
        self.expression = self._text()

    def value(self, x: Tensor) -> Tensor:
        """Return ``a . x + b``."""
        return x @ self.slope.to(x) + self.offset

    def _text(self) -> str:
        pairs = zip(self.slope.tolist(), variable_names(len(self.slope)), strict=True)
        terms = [f"{a!r}*{name}" for a, name in pairs if a]
        if self.offset or not terms:
            terms.append(repr(float(self.offset)))
        return " + ".join(terms)


class _Bent(Linear):
    """Compute a linear function with a kink where it is zero."""

    def __init__(self, slope: object = (1.0,), offset: float = 0.0) -> None:
        super().__init__(slope, offset)
        nonzero(float(self.slope.norm()), "slope")
        self.f_star = 0.0
        self.domain = Domain("where a . theta + b is not 0", self._distance)

    def _distance(self, x: Tensor) -> Tensor:
        # self.value is bent already.
        return Linear.value(self, x).abs() / self.slope.norm().to(x)


class AbsoluteValue(_Bent):
    """Compute ``E = |a . theta + b|``: two half-spaces of slope ``||a||``, which end at E = 0.

    Args:
        slope: a, numbers [n], not all 0. Default: (1,), the line.
        offset: b. Default: 0.
    """

    def __init__(self, slope: object = (1.0,), offset: float = 0.0) -> None:
        super().__init__(slope, offset)
        self.expression = f"abs({self.expression})"

    def value(self, x: Tensor) -> Tensor:
        """Return ``|a . x + b|``."""
        return super().value(x).abs()


class Hinge(_Bent):
    """Compute ``E = max(0, a . theta + b)``: a slope that ends in a plain, where g = 0.

    Every point of the plain is critical. The plain is a corridor of speed 0.

    Args:
        slope: a, numbers [n], not all 0. Default: (1,), the line.
        offset: b. Default: 0.
    """

    def __init__(self, slope: object = (1.0,), offset: float = 0.0) -> None:
        super().__init__(slope, offset)
        self.speed = None
        self.expression = f"max(0, {self.expression})"

    @property
    def steepest(self) -> float:
        """Return ``||a||``."""
        return float(self.slope.norm())

    def value(self, x: Tensor) -> Tensor:
        """Return ``max(0, a . x + b)``."""
        return super().value(x).relu()

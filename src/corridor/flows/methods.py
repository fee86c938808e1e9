"""Define Runge-Kutta methods as tables that verify their own order."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Field: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Table:
    """Define a Runge-Kutta method by its Butcher table.

    The step is ``k_i = f(x + h sum_j a_ij k_j)``, ``x <- x + h sum_i b_i k_i``. The constructor
    verifies the order conditions of all rooted trees up to order four.

    Attributes:
        name: name of the method.
        a: s rows of s coefficients.
        b: s weights.
        order: order of accuracy, 1 to 4.

    Example:
        >>> Table("wrong", ((0.0, 0.0), (1.0, 0.0)), (0.5, 0.4), 1)
        Traceback (most recent call last):
            ...
        ValueError: wrong must have sum b = 1 for order 1, got 0.9; correct its table

    Reference:
        Hairer, Norsett and Wanner (1993), "Solving Ordinary Differential Equations I", II.2.
    """

    name: str
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int

    def __post_init__(self) -> None:
        a, b = (torch.tensor(part, dtype=torch.float64) for part in (self.a, self.b))
        if a.shape != (len(b), len(b)):
            form, got = f"{len(b)} rows of {len(b)} coefficients", tuple(a.shape)
            raise ValueError(f"a must have {form}, got {got}; give one row per weight")
        c = a.sum(1)
        for label, order, found, wanted in [
            ("sum b", 1, b.sum(), 1.0),
            ("sum b c", 2, b @ c, 1.0 / 2.0),
            ("sum b c^2", 3, b @ c**2, 1.0 / 3.0),
            ("sum b a c", 3, b @ a @ c, 1.0 / 6.0),
            ("sum b c^3", 4, b @ c**3, 1.0 / 4.0),
            ("sum b c a c", 4, (b * c) @ a @ c, 1.0 / 8.0),
            ("sum b a c^2", 4, b @ a @ c**2, 1.0 / 12.0),
            ("sum b a a c", 4, b @ a @ a @ c, 1.0 / 24.0),
        ]:
            # The sums have at most a few dozen terms of size 1, so rounding stays below 1e-14.
            if order <= self.order and abs(float(found) - wanted) > 1e-14:
                need = f"{self.name} must have {label} = {wanted:g} for order {order}"
                raise ValueError(f"{need}, got {found:g}; correct its table")

    @property
    def implicit(self) -> bool:
        """Return True if a stage depends on itself or on a later stage."""
        return any(any(row[i:]) for i, row in enumerate(self.a))

    def step(self, field: Field, x: Tensor, h: float) -> Tensor:
        """Return the point after one step of size h from x, along a field of velocities."""
        k = self._solved(field, x, h) if self.implicit else []
        # An implicit method has its stages already.
        for row in self.a[len(k) :]:
            k.append(field(_moved(x, h, row, k)))
        return _moved(x, h, self.b, k)

    def _solved(self, field: Field, x: Tensor, h: float) -> list[Tensor]:
        """Return the implicit stages by fixed-point iteration (it needs h < 2 / ||H||)."""
        k = [field(x)] * len(self.b)
        scale, last = float(k[0].norm()), math.inf
        for _ in range(200):
            new = [field(_moved(x, h, row, k)) for row in self.a]
            change = max(float((p - q).norm()) for p, q in zip(new, k, strict=True))
            k = new
            # Rounding can keep the change above its goal: accept a small change that stagnates.
            if change <= 4.0 * torch.finfo(x.dtype).eps * scale or change >= last < 1e-12 * scale:
                return k
            last = change
        need = f"step_size must be small enough to solve {self.name}"
        raise ValueError(f"{need}, got {h:g}; take a smaller step size")


def _moved(x: Tensor, h: float, weights: tuple[float, ...], k: list[Tensor]) -> Tensor:
    return sum((h * w * ki for w, ki in zip(weights, k, strict=False) if w), x)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table("euler", ((0.0,),), (1.0,), 1),
        Table("heun", ((0.0, 0.0), (1.0, 0.0)), (0.5, 0.5), 2),
        Table("kutta3", ((0.0,) * 3, (0.5, 0.0, 0.0), (-1.0, 2.0, 0.0)), (1 / 6, 4 / 6, 1 / 6), 3),
        Table(
            "rk4",
            ((0.0,) * 4, (0.5, 0.0, 0.0, 0.0), (0.0, 0.5, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
            (1 / 6, 2 / 6, 2 / 6, 1 / 6),
            4,
        ),
        Table("implicit midpoint", ((0.5,),), (1.0,), 2),
    )
}

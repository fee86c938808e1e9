"""Runge-Kutta methods as tables that check themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Table:
    """A Butcher table: ``k_i = f(x + h sum_j a_ij k_j)``, ``x <- x + h sum_i b_i k_i``.

    It refuses to exist unless it has the order it claims: the conditions of all rooted trees up to
    order four are checked when it is made. In a corridor every method with ``sum b_i = 1`` steps on
    the flow, whatever its order, as all elementary differentials of higher order vanish.

    Attributes:
        name: of the method.
        a: s rows of s coefficients.
        b: s weights.
        order: of accuracy, 1 to 4.

    Raises:
        ValueError: a condition fails.

    Example:
        >>> Table("wrong", ((0.0, 0.0), (1.0, 0.0)), (0.5, 0.4), 1)
        Traceback (most recent call last):
            ...
        ValueError: wrong is not of order 1: sum b = 0.9, must be 1

    Reference:
        Hairer, Norsett and Wanner (1993), "Solving Ordinary Differential Equations I", II.2.
    """

    name: str
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int

    def __post_init__(self) -> None:
        for label, tree_order, found, wanted in self._conditions():
            if tree_order <= self.order and abs(found - wanted) > 1e-14:
                raise ValueError(
                    f"{self.name} is not of order {tree_order}: {label} = {found:g}, must be "
                    f"{wanted:g}"
                )

    @property
    def implicit(self) -> bool:
        """Whether a stage needs itself or a later one."""
        return any(self.a[i][j] for i in range(len(self.b)) for j in range(i, len(self.b)))

    def _conditions(self) -> list[tuple[str, int, float, float]]:
        a = torch.tensor(self.a, dtype=torch.float64)
        b = torch.tensor(self.b, dtype=torch.float64)
        if a.shape != (len(b), len(b)):
            raise ValueError(f"{self.name}: a must have {len(b)} rows of {len(b)} coefficients")
        c = a.sum(1)
        rows = [
            ("sum b", 1, b.sum(), 1.0),
            ("sum b c", 2, b @ c, 1.0 / 2.0),
            ("sum b c^2", 3, b @ c**2, 1.0 / 3.0),
            ("sum b a c", 3, b @ a @ c, 1.0 / 6.0),
            ("sum b c^3", 4, b @ c**3, 1.0 / 4.0),
            ("sum b c a c", 4, (b * c) @ a @ c, 1.0 / 8.0),
            ("sum b a c^2", 4, b @ a @ c**2, 1.0 / 12.0),
            ("sum b a a c", 4, b @ a @ a @ c, 1.0 / 24.0),
        ]
        return [(label, order, float(found), wanted) for label, order, found, wanted in rows]

    def step(self, field: Callable[[Tensor], Tensor], x: Tensor, h: float) -> Tensor:
        """One step of size h from x along a field.

        Raises:
            ValueError: the implicit equation is not solved by iteration, because h is too large.
        """
        k = self._solved(field, x, h) if self.implicit else self._stages(field, x, h)
        return x + h * sum(w * ki for w, ki in zip(self.b, k, strict=True) if w)

    def _stages(self, field: Callable[[Tensor], Tensor], x: Tensor, h: float) -> list[Tensor]:
        k: list[Tensor] = []
        for row in self.a:
            moved = sum((h * w * ki for w, ki in zip(row, k, strict=False) if w), x)
            k.append(field(moved))
        return k

    def _solved(self, field: Callable[[Tensor], Tensor], x: Tensor, h: float) -> list[Tensor]:
        """The stages by fixed-point iteration, which converges for h below 2 / ||H||."""
        k = [field(x)] * len(self.b)
        scale = float(k[0].norm())
        last = float("inf")
        for _ in range(200):
            moved = [sum((h * w * ki for w, ki in zip(r, k, strict=True) if w), x) for r in self.a]
            new = [field(point) for point in moved]
            change = max(float((p - q).norm()) for p, q in zip(new, k, strict=True))
            k = new
            if change <= 4.0 * torch.finfo(x.dtype).eps * scale or change >= last < 1e-12 * scale:
                return k
            last = change
        raise ValueError(
            f"{self.name} did not solve its implicit step of size {h:g}; take a smaller step size"
        )


EULER = Table("euler", ((0.0,),), (1.0,), 1)
HEUN = Table("heun", ((0.0, 0.0), (1.0, 0.0)), (0.5, 0.5), 2)
KUTTA3 = Table(
    "kutta3", ((0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (-1.0, 2.0, 0.0)), (1 / 6, 4 / 6, 1 / 6), 3
)
RK4 = Table(
    "rk4",
    ((0.0,) * 4, (0.5, 0.0, 0.0, 0.0), (0.0, 0.5, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
    (1 / 6, 2 / 6, 2 / 6, 1 / 6),
    4,
)
MIDPOINT = Table("implicit midpoint", ((0.5,),), (1.0,), 2)

TABLES: dict[str, Table] = {table.name: table for table in (EULER, HEUN, KUTTA3, RK4, MIDPOINT)}


def table(method: str | Table) -> Table:
    """The table of a name, or the table given.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(method, Table):
        return method
    if method not in TABLES:
        raise ValueError(f"method must be one of {', '.join(TABLES)}, got {method!r}")
    return TABLES[method]

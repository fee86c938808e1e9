"""Report the result of a check of a statement."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Check:
    """Compare a number with its bound. The truth value is True if the statement holds.

    Attributes:
        statement: short name of the statement, with its number in the paper.
        measured: number that must not exceed the bound.
        bound: the bound.
        detail: further numbers by name (default: none).
    """

    statement: str
    measured: float
    bound: float
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Return True if the number does not exceed the bound."""
        return self.measured <= self.bound

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "does not hold"
        return f"{self.statement}: {verdict} ({self.measured:.3g}, bound {self.bound:.3g})"

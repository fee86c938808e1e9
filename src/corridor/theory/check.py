"""What a check of a statement says: what was measured, against which bound."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Check:
    """A statement put to the test; true if it holds.

    Attributes:
        statement: in a few words, with its number in the paper.
        measured: the number that must not exceed the bound.
        bound: the tolerance.
        detail: other numbers on the way.
    """

    statement: str
    measured: float
    bound: float
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether what was measured lies within the bound."""
        return self.measured <= self.bound

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "does not hold"
        return f"{self.statement}: {verdict} ({self.measured:.3g}, bound {self.bound:.3g})"

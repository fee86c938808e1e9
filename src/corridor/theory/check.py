"""Report the result of a check of a statement."""

from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from corridor.flows.space import FlatLoss, Loss, starting_at

TINY = 1e-300  # keeps ratios finite for paths without length


def precise(loss: Loss, start: Tensor) -> Tensor:
    """Return a start in float64 if the loss accepts it, because float32 hides small distances."""
    # A loss that contains tensors of another dtype raises a RuntimeError.
    with torch.no_grad(), suppress(RuntimeError):
        loss(start.detach().double())
        return start.detach().double()
    return start


def begin(loss: Loss, start: Tensor) -> tuple[FlatLoss, Tensor, Tensor]:
    """Return a loss on flat vectors, the start as one of them, and the gradient there."""
    flat_loss = starting_at(loss, start)
    return flat_loss, flat_loss.start, flat_loss.gradient(flat_loss.start)


def farthest(rows: Tensor, others: Tensor) -> float:
    """Return the largest distance between rows of the same place."""
    return float((rows - others).norm(dim=1).max())


def rounding(start: Tensor, bound: float = 1e-12) -> float:
    """Return a bound of errors that are rounding alone, from the bound for float64."""
    return bound * torch.finfo(start.dtype).eps / torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Check:
    """Compare a number with its bound; true if the statement holds.

    Attributes:
        statement: short name of the statement, with its number in the paper.
        measured: number that must not exceed the bound.
        bound: largest number at which the statement holds.
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

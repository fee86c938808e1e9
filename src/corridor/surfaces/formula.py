"""Losses given as text."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from corridor.proofs.expression import evaluate, named_variables, parse
from corridor.surfaces.base import Surface, Verdict


class Expression(Surface):
    """A loss given as a formula, whose verdict is unknown until `corridor.prove` finds it.

    Args:
        text: the formula, as for `corridor.proofs.expression.parse`.
        variables: names in the order of a point's coordinates. Default: those that occur,
            alphabetically.

    Raises:
        ValueError: the text cannot be read, or contains variables that are not named.

    Example:
        >>> import torch
        >>> loss = Expression("sqrt(x**2 + y**2)")
        >>> float(loss(torch.tensor([3.0, 4.0])))
        5.0
    """

    verdict = Verdict.UNDECIDED
    f_star = -float("inf")

    def __init__(self, text: str, variables: Sequence[str] | None = None) -> None:
        self.tree = parse(text)
        self.expression = text
        self.variables = named_variables(self.tree, variables)
        self.dimension = len(self.variables)

    def value(self, x: Tensor) -> Tensor:
        """Return the formula at points [..., n]."""
        values = dict(zip(self.variables, x.unbind(-1), strict=True))
        return evaluate(self.tree, values, x[..., 0])

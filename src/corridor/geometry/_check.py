"""Hg against finite differences of ``||g||^2 / 2``, of which it is the gradient."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from corridor import _tree
from corridor._types import Tensors
from corridor.geometry import _gradient
from corridor.geometry._guard import Closure, Untouched
from corridor.geometry._moves import Moved

TOLERANCE = 0.02


@dataclass(frozen=True)
class Checked:
    """What finite differences said of ``<Hg, u>`` along one random direction u.

    Attributes:
        expected: by finite differences.
        found: by the engine.
        uncertainty: by how much two step lengths disagree on `expected`.
        verdict: "right" or "inconclusive"; what is wrong raises.
    """

    expected: float
    found: float
    uncertainty: float
    verdict: str


def check_product(
    guard: Untouched, closure: Closure, gradient: Tensors, product: Tensors, engine: str
) -> Checked:
    """Compare ``<Hg, u>`` with differences of ``||g||^2 / 2`` at two step lengths.

    The direction is ``u = Hg / ||Hg|| + z`` with z random of length one: it sees errors of any
    direction and is not small by chance. Warns where the two lengths disagree, as across kinks.

    Raises:
        ValueError: they agree with each other and not with Hg.
    """
    size = float(_tree.whole_squared_norm(product)) ** 0.5
    if size == 0.0:
        direction = _random_unit(guard.params)
    else:
        pairs = zip(product, _random_unit(guard.params), strict=True)
        direction = [h / size + z for h, z in pairs]
    found = float(_tree.whole_dot(product, direction))
    eps = _gradient.rounding(guard.params)
    norm_sq = float(_tree.whole_squared_norm(gradient))
    length = eps ** (1 / 3) * (norm_sq / abs(found) if found else 1.0)
    with Moved(guard.params, direction) as moved:

        def slope(length: float) -> float:
            values = []
            for signed in (length, -length):
                moved.to(signed)
                values.append(
                    float(_tree.whole_squared_norm(_gradient.evaluate(guard, closure)[1]))
                )
            return (values[0] - values[1]) / (4.0 * length)

        coarse, fine = slope(length), slope(length / 4.0)
    spread = abs(coarse - fine)
    error = min(abs(coarse - found), abs(fine - found))
    scale = max(abs(found), abs(fine))
    if error <= TOLERANCE * scale:
        return Checked(fine, found, spread, "right")
    if spread <= 0.25 * error:
        raise ValueError(
            f"Hg by {engine} is wrong: along a random direction {found:.6g}, by finite differences "
            f"{fine:.6g}; give another engine, and report the layer at fault"
        )
    warnings.warn(
        f"Hg could not be checked: finite differences give {coarse:.4g} and {fine:.4g}, "
        f"{engine} {found:.4g}; kinks such as ReLU's, or rounding, stand in the way",
        stacklevel=4,
    )
    return Checked(fine, found, spread, "inconclusive")


def _random_unit(params: Tensors) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(p.shape, generator=generator).to(p) if p.requires_grad else torch.zeros_like(p)
        for p in params
    ]
    norm = float(_tree.whole_squared_norm(drawn)) ** 0.5
    return [z / norm for z in drawn]

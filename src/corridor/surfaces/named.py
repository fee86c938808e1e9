"""Find surfaces by name, or make them from text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from corridor.proofs import Verdict
from corridor.proofs.expression import evaluate, named_variables, parse
from corridor.surfaces import cones, linear, matrices, ruled, shapes, tails
from corridor.surfaces.base import Surface
from corridor.surfaces.curves import flower
from corridor.surfaces.distance import DistanceTo
from corridor.surfaces.fixed_step import FixedStep
from corridor.surfaces.glued import Glued, landscape
from corridor.surfaces.quadratic import Quadratic

SURFACES: dict[str, Callable[[], Surface]] = {
    "linear": lambda: linear.Linear([3.0, 4.0]),
    "absolute-value": linear.AbsoluteValue,
    "hinge": lambda: linear.Hinge([1.0, -2.0], 1.0),
    "cone": cones.Cone,
    "concave-cone": lambda: cones.Cone(-1.0),
    "block-cone": lambda: cones.BlockCone([2, 1], [2.0, 1.0]),
    "one-norm": lambda: cones.PNorm(1.0),
    "max-norm": lambda: cones.PNorm(float("inf")),
    "nuclear-norm": matrices.NuclearNorm,
    "spectral-norm": matrices.SpectralNorm,
    "sphere": lambda: DistanceTo(shapes.Sphere([0.0, 0.0], 1.0)),
    "circle-in-space": lambda: DistanceTo(shapes.CircleInSpace(1.0)),
    "segment": lambda: DistanceTo(shapes.Segment([-1.0, 0.0], [1.0, 0.0])),
    "box": lambda: DistanceTo(shapes.Box([1.0, 0.5]), absolute=False),
    "points": lambda: DistanceTo(shapes.Points([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]])),
    "wavy-cone": lambda: DistanceTo(flower(), absolute=False),
    "developable-helicoid": ruled.DevelopableHelicoid,
    "glued": lambda: Glued([cones.Cone(1.0), linear.Linear([0.5, 0.25], 1.0)]),
    "landscape": landscape,
    "quadratic": Quadratic,
    "ellipse": lambda: Quadratic([[1.0, 0.0], [0.0, 4.0]]),
    "power-3/2": lambda: cones.PowerNorm(1.5),
    "power-3": lambda: cones.PowerNorm(3.0),
    "p-norm-3": lambda: cones.PNorm(3.0),
    "log-sum-exp": tails.LogSumExp,
    "log-distance": tails.LogDistance,
    "saddle": ruled.Saddle,
    "helicoid": ruled.Helicoid,
    "trough": ruled.Trough,
    "huber": tails.Huber,
    "rosenbrock": tails.Rosenbrock,
    "river-valley": tails.RiverValley,
    "exponential": tails.ExponentialTail,
    "logistic": tails.LogisticTail,
    "fixed-step": FixedStep,
}


def surface(name: str) -> Surface:
    """Return the surface of a name, with its standard numbers.

    Args:
        name: a key of `SURFACES`.

    Raises:
        ValueError: the name is unknown.

    Example:
        >>> surface("cone").is_corridor
        True
    """
    if name not in SURFACES:
        raise ValueError(f"unknown surface {name!r}; use one of {', '.join(SURFACES)}")
    return SURFACES[name]()


class Expression(Surface):
    """Compute a formula. Its verdict is undecided; `corridor.prove` finds it.

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

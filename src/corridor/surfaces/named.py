"""Surfaces by name, for the command line and for whoever wants them all."""

from __future__ import annotations

from collections.abc import Callable

from corridor.surfaces.base import Surface
from corridor.surfaces.blocks import BlockCone
from corridor.surfaces.cones import Cone, PNorm, PowerNorm
from corridor.surfaces.distance import DistanceTo
from corridor.surfaces.fixed_step import FixedStep
from corridor.surfaces.glued import Glued, flower, landscape
from corridor.surfaces.linear import AbsoluteValue, Hinge, Linear
from corridor.surfaces.matrices import NuclearNorm, SpectralNorm
from corridor.surfaces.quadratic import Quadratic
from corridor.surfaces.ruled import DevelopableHelicoid, Helicoid, Saddle, Trough
from corridor.surfaces.shapes import Box, CircleInSpace, Points, Segment, Sphere
from corridor.surfaces.tails import (
    ExponentialTail,
    Huber,
    LogDistance,
    LogisticTail,
    LogSumExp,
    RiverValley,
    Rosenbrock,
)

SURFACES: dict[str, Callable[[], Surface]] = {
    "linear": lambda: Linear([3.0, 4.0]),
    "absolute-value": AbsoluteValue,
    "hinge": lambda: Hinge([1.0, -2.0], 1.0),
    "cone": Cone,
    "concave-cone": lambda: Cone(-1.0),
    "block-cone": lambda: BlockCone([2, 1], [2.0, 1.0]),
    "one-norm": lambda: PNorm(1.0),
    "max-norm": lambda: PNorm(float("inf")),
    "nuclear-norm": NuclearNorm,
    "spectral-norm": SpectralNorm,
    "sphere": lambda: DistanceTo(Sphere([0.0, 0.0], 1.0)),
    "circle-in-space": lambda: DistanceTo(CircleInSpace(1.0)),
    "segment": lambda: DistanceTo(Segment([-1.0, 0.0], [1.0, 0.0])),
    "box": lambda: DistanceTo(Box([1.0, 0.5]), absolute=False),
    "points": lambda: DistanceTo(Points([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]])),
    "wavy-cone": lambda: DistanceTo(flower(), absolute=False),
    "developable-helicoid": DevelopableHelicoid,
    "glued": lambda: Glued([Cone(1.0), Linear([0.5, 0.25], 1.0)]),
    "landscape": landscape,
    "quadratic": Quadratic,
    "ellipse": lambda: Quadratic([[1.0, 0.0], [0.0, 4.0]]),
    "power-3/2": lambda: PowerNorm(1.5),
    "power-3": lambda: PowerNorm(3.0),
    "p-norm-3": lambda: PNorm(3.0),
    "log-sum-exp": LogSumExp,
    "log-distance": LogDistance,
    "saddle": Saddle,
    "helicoid": Helicoid,
    "trough": Trough,
    "huber": Huber,
    "rosenbrock": Rosenbrock,
    "river-valley": RiverValley,
    "exponential": ExponentialTail,
    "logistic": LogisticTail,
    "fixed-step": FixedStep,
}


def surface(name: str) -> Surface:
    """The surface of a name, with its usual numbers.

    Args:
        name: a key of `SURFACES`.

    Raises:
        ValueError: there is none of that name.

    Example:
        >>> surface("cone").is_corridor
        True
    """
    if name not in SURFACES:
        raise ValueError(f"unknown surface {name!r}; known are {', '.join(SURFACES)}")
    return SURFACES[name]()

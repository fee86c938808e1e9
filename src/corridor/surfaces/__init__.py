"""Define losses with known answers: corridors, and surfaces that are not corridors."""

from collections.abc import Callable

from corridor.proofs import Proof, Verdict, prove
from corridor.surfaces.base import Domain, Surface
from corridor.surfaces.cones import BlockCone, Cone, NuclearNorm, PNorm, PowerNorm, SpectralNorm
from corridor.surfaces.curves import Curve, LevelSet, flower
from corridor.surfaces.distance import (
    Box,
    CircleInSpace,
    DistanceTo,
    Points,
    Segment,
    Shape,
    Sphere,
)
from corridor.surfaces.formula import Expression
from corridor.surfaces.glued import Glued, landscape
from corridor.surfaces.linear import AbsoluteValue, Hinge, Linear, Quadratic
from corridor.surfaces.smooth import (
    DevelopableHelicoid,
    ExponentialTail,
    FixedStep,
    Helicoid,
    Huber,
    LogDistance,
    LogisticTail,
    LogSumExp,
    RiverValley,
    Rosenbrock,
    Saddle,
    Trough,
)

__all__ = [
    "SURFACES", "AbsoluteValue", "BlockCone", "Box", "CircleInSpace", "Cone", "Curve",
    "DevelopableHelicoid", "DistanceTo", "Domain", "ExponentialTail", "Expression", "FixedStep",
    "Glued", "Helicoid", "Hinge", "Huber", "LevelSet", "Linear", "LogDistance", "LogSumExp",
    "LogisticTail", "NuclearNorm", "PNorm", "Points", "PowerNorm", "Proof", "Quadratic",
    "RiverValley", "Rosenbrock", "Saddle", "Segment", "Shape", "SpectralNorm", "Sphere", "Surface",
    "Trough", "Verdict", "flower", "landscape", "prove", "surface",
]  # fmt: skip

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
    """Return the surface of a name, a key of `SURFACES`, with its standard numbers."""
    if name not in SURFACES:
        raise ValueError(f"unknown surface {name!r}; use one of {', '.join(SURFACES)}")
    return SURFACES[name]()


def __getattr__(name: str) -> object:
    if name == "EikonalGrid":
        raise ImportError("EikonalGrid was removed; use DistanceTo(LevelSet(function, bounds))")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

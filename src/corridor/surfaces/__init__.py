"""Losses with known answers: corridors, and surfaces that are not corridors."""

from corridor.proofs import Proof, Verdict, prove
from corridor.surfaces.base import Domain, Surface
from corridor.surfaces.cones import BlockCone, Cone, PNorm, PowerNorm
from corridor.surfaces.curves import Curve, LevelSet, flower
from corridor.surfaces.distance import DistanceTo
from corridor.surfaces.fixed_step import FixedStep
from corridor.surfaces.formula import Expression
from corridor.surfaces.glued import Glued, landscape
from corridor.surfaces.linear import AbsoluteValue, Hinge, Linear, Quadratic
from corridor.surfaces.matrices import NuclearNorm, SpectralNorm
from corridor.surfaces.named import SURFACES, surface
from corridor.surfaces.ruled import DevelopableHelicoid, Helicoid, Saddle, Trough
from corridor.surfaces.shapes import Box, CircleInSpace, Points, Segment, Shape, Sphere
from corridor.surfaces.tails import (
    ExponentialTail,
    Huber,
    LogDistance,
    LogisticTail,
    LogSumExp,
    RiverValley,
    Rosenbrock,
)

__all__ = [
    "SURFACES", "AbsoluteValue", "BlockCone", "Box", "CircleInSpace", "Cone", "Curve",
    "DevelopableHelicoid", "DistanceTo", "Domain", "ExponentialTail", "Expression", "FixedStep",
    "Glued", "Helicoid", "Hinge", "Huber", "LevelSet", "Linear", "LogDistance", "LogSumExp",
    "LogisticTail", "NuclearNorm", "PNorm", "Points", "PowerNorm", "Proof", "Quadratic",
    "RiverValley", "Rosenbrock", "Saddle", "Segment", "Shape", "SpectralNorm", "Sphere", "Surface",
    "Trough", "Verdict", "flower", "landscape", "prove", "surface",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name == "EikonalGrid":
        raise ImportError("EikonalGrid was removed; use DistanceTo(LevelSet(function, bounds))")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

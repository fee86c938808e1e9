"""Losses with known answers: corridors, and surfaces that are none."""

from corridor.proofs import Proof, Verdict, prove
from corridor.surfaces.base import Domain, Surface
from corridor.surfaces.blocks import BlockCone
from corridor.surfaces.cones import Cone, PNorm, PowerNorm
from corridor.surfaces.distance import DistanceTo
from corridor.surfaces.fixed_step import FixedStep
from corridor.surfaces.formula import Expression
from corridor.surfaces.glued import Glued, flower, landscape
from corridor.surfaces.grid import EikonalGrid
from corridor.surfaces.linear import AbsoluteValue, Hinge, Linear
from corridor.surfaces.matrices import NuclearNorm, SpectralNorm
from corridor.surfaces.named import SURFACES, surface
from corridor.surfaces.quadratic import Quadratic
from corridor.surfaces.ruled import DevelopableHelicoid, Helicoid, Saddle, Trough
from corridor.surfaces.shapes import Box, CircleInSpace, Curve, Points, Segment, Shape, Sphere
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
    "SURFACES",
    "AbsoluteValue",
    "BlockCone",
    "Box",
    "CircleInSpace",
    "Cone",
    "Curve",
    "DevelopableHelicoid",
    "DistanceTo",
    "Domain",
    "EikonalGrid",
    "ExponentialTail",
    "Expression",
    "FixedStep",
    "Glued",
    "Helicoid",
    "Hinge",
    "Huber",
    "Linear",
    "LogDistance",
    "LogSumExp",
    "LogisticTail",
    "NuclearNorm",
    "PNorm",
    "Points",
    "PowerNorm",
    "Proof",
    "Quadratic",
    "RiverValley",
    "Rosenbrock",
    "Saddle",
    "Segment",
    "Shape",
    "SpectralNorm",
    "Sphere",
    "Surface",
    "Trough",
    "Verdict",
    "flower",
    "landscape",
    "prove",
    "surface",
]

"""Find surfaces by name."""

from collections.abc import Callable

from corridor.surfaces import cones, linear, matrices, ruled, shapes, tails
from corridor.surfaces.base import Surface
from corridor.surfaces.curves import flower
from corridor.surfaces.distance import DistanceTo
from corridor.surfaces.fixed_step import FixedStep
from corridor.surfaces.glued import Glued, landscape

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
    "quadratic": linear.Quadratic,
    "ellipse": lambda: linear.Quadratic([[1.0, 0.0], [0.0, 4.0]]),
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
    """
    if name not in SURFACES:
        raise ValueError(f"unknown surface {name!r}; use one of {', '.join(SURFACES)}")
    return SURFACES[name]()

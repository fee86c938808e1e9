"""Define corridors with a start inside each of them, for the tests of the theorems."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor import surfaces as s


def _at(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


CORRIDORS: dict[str, tuple[s.Surface, Tensor]] = {
    "plane": (s.Linear([3.0, -4.0], 50.0), _at(1.0, 2.0)),
    "cone in 5 dimensions": (s.Cone(), _at(1.5, -0.7, 0.9, 0.4, 2.0)),
    "concave cone": (s.Cone(-1.0), _at(1.5, -0.7, 0.9)),
    "blocks": (s.BlockCone([2, 3], [2.0, 0.5]), _at(3.0, 4.0, 1.0, -2.0, 2.0)),
    "nuclear norm": (s.NuclearNorm(3, 2), _at(2.0, 0.3, -0.4, 1.5, 0.7, -1.0).reshape(3, 2)),
    "spectral norm": (s.SpectralNorm(2, 3), _at(4.0, 0.3, -0.4, 0.5, 0.7, -0.1).reshape(2, 3)),
    "sphere from inside": (s.DistanceTo(s.Sphere([0.5, 0.0], 3.0), absolute=False), _at(1.0, 1.2)),
    "circle in space": (s.DistanceTo(s.CircleInSpace(1.0)), _at(2.0, 1.0, 1.5)),
    "wavy cone": (s.DistanceTo(s.flower(), slope=2.0, absolute=False), _at(1.8, 1.4)),
    "tangents of a helix": (s.DevelopableHelicoid(1.0), _at(2.0, 2.5)),
    "one-norm": (s.PNorm(1.0), _at(2.0, -3.0, 1.5)),
}

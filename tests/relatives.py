"""List all optimizers: one row brings a new relative into all tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from corridor import CLR
from corridor.optim import (
    NGN,
    AdaSPS,
    DecSPS,
    HalfPolyak,
    MoMo,
    MoMoAdam,
    Polyak,
    SPSMax,
    SPSSafe,
)

RELATIVES: dict[str, Callable[..., Any]] = {
    "CLR": CLR,
    "CLR, no cap": lambda p, **o: CLR(p, **{"max_lr": math.inf, **o}),
    "CLR, momentum": lambda p, **o: CLR(p, **{"momentum": 0.9, **o}),
    "Polyak": lambda p, **o: Polyak(p, **{"f_star": 0.0, **o}),
    "HalfPolyak": HalfPolyak,
    "HalfPolyak, refined": lambda p, **o: HalfPolyak(p, refine_every=2, **o),
    "SPSMax": SPSMax,
    "SPSMax, smoothed": lambda p, **o: SPSMax(p, growth=2**0.25, **o),
    "SPSMax, momentum": lambda p, **o: SPSMax(p, **{"momentum": 0.9, "c": 1.0, **o}),
    "SPSSafe": SPSSafe,
    "NGN": NGN,
    "NGN, momentum": lambda p, **o: NGN(p, **{"momentum": 0.9, **o}),
    "DecSPS": DecSPS,
    "AdaSPS": AdaSPS,
    "MoMo": MoMo,
    "MoMo, bound estimated": lambda p, **o: MoMo(p, estimate_f_star=True, **o),
    "MoMoAdam": MoMoAdam,
    "MoMoAdam, bound estimated": lambda p, **o: MoMoAdam(
        p, **{"max_lr": 0.1, "estimate_f_star": True, **o}
    ),
}

"""How a long flow shows itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[float, int, float], None]
EVERY = 1.0  # seconds between lines


def reporter(progress: bool | Progress, end: float) -> Progress:
    """The function given, one that writes lines to stderr, or one that does nothing."""
    if callable(progress):
        return progress
    if not progress:
        return lambda now, gradients, step: None
    last = time.monotonic()

    def lines(now: float, gradients: int, step: float) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY or now >= end:
            last = time.monotonic()
            text = f"flow: time {now:.4g} of {end:.4g}, {gradients:,} gradients, step {step:.2g}"
            print(text, file=sys.stderr, flush=True)

    return lines

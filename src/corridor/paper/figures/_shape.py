"""The shape of a step size along training: whether it warms up, then decays."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from corridor.paper import words
from corridor.paper.curves import Curve
from corridor.paper.figure import Claim
from corridor.paper.figures import training as _common
from corridor.paper.results import Setting

SEGMENTS = 20
LATE = 0.05  # below this loss a late rise of the step size is what theory expects
NOTE = (
    "Shape of the step size: medians over twentieths of a run, while the training loss is "
    f"above {LATE:g}; below it the step size is expected to rise again (cross-entropy's tail)."
)


@dataclass(frozen=True)
class Shape:
    """How a step size went, from medians over twentieths of a run while the loss is above 0.05.

    Attributes:
        rise: the largest over the first.
        peak: where the largest is, as a share of the run.
        fall: the last over the largest.
    """

    rise: float
    peak: float
    fall: float

    @property
    def warms_up_then_decays(self) -> bool:
        """Up by a fifth at least, and then down to half."""
        return self.rise > 1.2 and self.fall < 0.5

    @property
    def decays(self) -> bool:
        """Down to half from a peak in the first twentieth."""
        return self.rise <= 1.2 and self.fall < 0.5


def shape(curve: Curve) -> Shape:
    """The shape of a run's step size."""
    pairs = zip(curve.loss, curve.effective_lr, strict=True)
    rates = [rate for loss, rate in pairs if loss > LATE and 0 < rate < math.inf]
    if not rates:  # no step was made while it counts
        return Shape(math.nan, math.nan, math.nan)
    size = max(1, len(rates) // SEGMENTS)
    parts = [statistics.median(rates[k : k + size]) for k in range(0, len(rates), size)]
    top = max(parts)
    return Shape(top / parts[0], parts.index(top) / len(parts), parts[-1] / top)


def warms_up(setting: Setting, where: str, every: Sequence[Setting]) -> Claim:
    """Whether the step size of every run warms up, then decays.

    Args:
        setting: one form of CLR.
        where: what it trained.
        every: all settings of the same place, to say what mends failing runs.
    """
    shapes = [shape(c) for c in setting.curves]
    claim = f"{words.label(setting.config)}, {where}: the step size warms up, then decays"
    measured = (
        f"peak {words.cell([s.rise for s in shapes])} times the start, at "
        f"{words.cell([100 * s.peak for s in shapes])} % of the run; end "
        f"{words.cell([s.fall for s in shapes])} of the peak"
    )
    done = sum(s.warms_up_then_decays for s in shapes)
    if done == len(shapes):
        return Claim(claim, measured, "holds")
    reason = _reason(setting, shapes, every)
    if done:
        return Claim(claim, measured, f"only in {done} of {len(shapes)} seeds", reason)
    return Claim(claim, measured, "does not hold", reason)


def _reason(setting: Setting, shapes: list[Shape], every: Sequence[Setting]) -> str:
    cap = setting.config.lr
    if cap is not None and words.median(setting.curves, "median_lr") == cap:
        return f"the cap of {cap:g} holds most steps: the step size is constant"
    if all(map(words.diverged, setting.curves)):
        return "the runs fail: " + _common.why_it_fails(every)
    if all(s.decays for s in shapes):
        return "it decays from the first steps on, without a warm-up"
    return (
        "along the gradient flow dh/dt = 4 rho_parallel - 1: the step size rises wherever "
        "rho_parallel is above 1/4, which is a property of network and data"
    )

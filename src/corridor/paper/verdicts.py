"""Turn curves into verdicts: comparison, convergence, shape of the step size."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from corridor.paper import words
from corridor.paper.curves import Curve, spread
from corridor.paper.figure import Claim
from corridor.paper.results import Results, Setting

TIE = ("tie", "the ranges over seeds overlap")
# docs/cap.md and the page of verdicts explain this in full.
NO_INTERPOLATION = (
    "loss zero cannot be reached along the gradient here, so that h = E / ||g||^2 grows as ||g|| "
    "shrinks, and the steps turn chaotic"
)
RISES = "some runs end no lower than they began"
# A run converges if it keeps less than SHARE of its first loss, and trains if less than HARDLY.
SHARE, HARDLY = 0.1, 0.9
SEGMENTS = 20
LATE = 0.05
SHAPE_NOTE = (
    "Shape of the step size: medians over twentieths of a run, while the training loss is "
    f"above {LATE:g}. Below that loss, the step size is expected to rise again (tail of the "
    "cross-entropy)."
)


def order(mine: Sequence[float | None], theirs: Sequence[float | None]) -> int:
    """Return -1 if every value of mine is below every value of theirs, 1 if above, else 0.

    A missing value counts as infinity. If one side is missing in the median, the medians decide.

    >>> order([1.0, 2.0], [3.0]), order([1.0, 4.0], [3.0]), order([None, None, 1.0], [3.0, 4.0])
    (-1, 0, 1)
    """
    a, b = spread(mine), spread(theirs)
    if math.isinf(a[1]) or math.isinf(b[1]):
        return int(a[1] > b[1]) - int(a[1] < b[1])
    return int(a[0] > b[2]) - int(a[2] < b[0])


def lower_than_all(ours: Setting, others: Sequence[Setting], name: str) -> tuple[str, str]:
    """Return verdict and reason for the claim that ours has the lowest values of a field."""
    found = [order(ours.values(name), other.values(name)) for other in others]
    if all(sign < 0 for sign in found):
        return "holds", ""
    return ("does not hold", "") if any(sign > 0 for sign in found) else TIE


def share_left(setting: Setting) -> float:
    """Return the largest share of the first loss that is left at the end, over runs."""
    return max(c.final_loss / c.loss[0] for c in setting.curves)


def trains(setting: Setting) -> bool:
    """Return True if every run loses at least a tenth of its first loss."""
    return share_left(setting) < HARDLY


def why_it_fails(settings: Sequence[Setting]) -> str:
    """Return why CLR without a cap fails, and which other settings train in its place."""
    others = [s for s in settings if s.config.optimizer != "sgd" and not words.uncapped(s.config)]
    good = [
        form.removeprefix("CLR, ")
        for form, theirs in by_form(others).items()
        if all(map(trains, theirs))
    ]
    return NO_INTERPOLATION + (f"; these train: {', '.join(good)}" if good else "")


def converges(results: Results, subject: str) -> list[Claim]:
    """Return a claim on a subject per form of CLR: less than a tenth of the first loss is left."""
    return [
        Claim(
            f"{name}: converges, {subject}: less than a tenth of the first loss is left",
            "final loss " + "; ".join(_left(setting, len(ours) > 1) for setting in ours),
            *_converged(ours, results.settings),
        )
        for name, ours in by_form(results.of("clr")).items()
    ]


def by_form(settings: Sequence[Setting]) -> dict[str, list[Setting]]:
    """Return settings by their label; the settings of one label differ in batch size."""
    forms: dict[str, list[Setting]] = {}
    for setting in settings:
        forms.setdefault(words.label(setting.config), []).append(setting)
    return forms


def _left(setting: Setting, several: bool) -> str:
    share = share_left(setting)
    batch = f"batch {setting.config.batch_size}: " if several else ""
    left = f"{words.number(100 * share)} %" if math.isfinite(share) else "all"
    first = words.number(setting.curves[0].loss[0])
    return f"{batch}{words.losses(setting)} of {first} (at most {left} left)"


def _converged(ours: Sequence[Setting], every: Sequence[Setting]) -> tuple[str, str]:
    done = [s for s in ours if share_left(s) < SHARE]
    if len(done) == len(ours):
        return "holds", ""
    # Only CLR without a cap has a known reason to fail.
    failing = [s for s in ours if s.fails]
    reason = "the loss falls in every run, but not below a tenth in the given steps"
    if failing:
        reason = why_it_fails(every) if words.uncapped(failing[0].config) else RISES
    return (f"holds under batch {_batches(done)}" if done else "does not hold"), reason


def falls(results: Results, subject: str) -> list[Claim]:
    """Return the claim that the loss of every CLR run falls, at every batch size."""
    ours = results.of("clr")
    measured = "; ".join(
        f"batch {s.config.batch_size}: {words.number(s.curves[0].loss[0])} to {words.losses(s)}"
        for s in ours
    )
    claim = f"{words.label(ours[0].config)}: stable and falling loss, {subject}"
    return [Claim(claim, f"training loss {measured}", *_falling(ours))]


def _falling(ours: Sequence[Setting]) -> tuple[str, str]:
    bad = [s for s in ours if s.fails]
    good = [s for s in ours if trains(s)]
    idle = [s for s in ours if s not in bad and s not in good]
    if len(good) == len(ours):
        return "holds", ""
    reasons = []
    if bad:
        reasons.append(f"at batch {_batches(bad)} {RISES}")
    if idle:
        reasons.append(f"at batch {_batches(idle)} the loss hardly falls in the given steps")
    nothing = "does not hold" if bad else "undecided"
    return (f"holds under batch {_batches(good)}" if good else nothing), "; ".join(reasons)


def _batches(settings: Sequence[Setting]) -> str:
    return ", ".join(str(s.config.batch_size) for s in settings)


@dataclass(frozen=True)
class Shape:
    """Describe the step size along a run by medians over twentieths, while the loss is above 0.05.

    `rise` is the largest median over the first, and `peak` its place as a share of the run. `fall`
    is the last median over the largest.
    """

    rise: float
    peak: float
    fall: float

    @property
    def warms_up_then_decays(self) -> bool:
        """True if the step size rises by at least a fifth, then falls below half."""
        return self.rise > 1.2 and self.fall < 0.5

    @property
    def decays(self) -> bool:
        """True if the step size falls below half without such a rise."""
        return self.rise <= 1.2 and self.fall < 0.5


def shape(curve: Curve) -> Shape:
    """Return the shape of a run's step size; NaN if no step counts."""
    pairs = zip(curve.loss, curve.effective_lr, strict=True)
    rates = [rate for loss, rate in pairs if loss > LATE and 0 < rate < math.inf]
    if not rates:
        return Shape(math.nan, math.nan, math.nan)
    size = max(1, len(rates) // SEGMENTS)
    parts = [statistics.median(rates[k : k + size]) for k in range(0, len(rates), size)]
    top = max(parts)
    return Shape(top / parts[0], parts.index(top) / len(parts), parts[-1] / top)


def warms_up(setting: Setting, where: str, every: Sequence[Setting]) -> Claim:
    """Return the claim that the step size of every run of a form of CLR warms up, then decays."""
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
    verdict = f"only in {done} of {len(shapes)} seeds" if done else "does not hold"
    return Claim(claim, measured, verdict, _shape_reason(setting, shapes, every))


def _shape_reason(setting: Setting, shapes: list[Shape], every: Sequence[Setting]) -> str:
    if setting.at_cap:
        return f"most steps are at the cap of {setting.config.lr:g}: the step size is constant"
    if setting.fails_always:
        return "the runs fail: " + why_it_fails(every)
    if all(s.decays for s in shapes):
        return "the step size decays from the start, without a warm-up"
    return (
        "along the gradient flow dh/dt = 4 rho_parallel - 1: the step size rises wherever "
        "rho_parallel is above 1/4, which depends on network and data"
    )

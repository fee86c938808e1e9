"""Claims that CLR converges: figures 3, 5, 6 and 9 ask the same of other networks and batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from corridor.paper import words
from corridor.paper.figure import Claim
from corridor.paper.figures import training as _common
from corridor.paper.results import Results, Setting

SHARE = 0.1


def converges(results: Results, subject: str) -> list[Claim]:
    """Per optimizer: whether the loss falls below a tenth of its first value in every run."""
    by_optimizer: dict[str, list[Setting]] = {}
    for setting in _common.settings(results):
        if setting.config.optimizer == "clr":
            by_optimizer.setdefault(words.label(setting.config), []).append(setting)
    every = _common.settings(results)
    return [_claim(name, ours, subject, every) for name, ours in by_optimizer.items()]


def _claim(name: str, ours: Sequence[Setting], subject: str, every: Sequence[Setting]) -> Claim:
    done = [s for s in ours if _common.share_left(s) < SHARE]
    measured = "; ".join(
        f"{_where(s, len(ours))}{words.losses(s.curves)} of {words.number(s.curves[0].loss[0])} "
        f"({_percent(_common.share_left(s))} left at most)"
        for s in ours
    )
    claim = f"{name}: converges, {subject}: less than a tenth of the first loss is left"
    verdict, reason = _verdict(done, ours, every)
    return Claim(claim, f"final loss {measured}", verdict, reason)


def _verdict(
    done: Sequence[Setting], ours: Sequence[Setting], every: Sequence[Setting]
) -> tuple[str, str]:
    if len(done) == len(ours):
        return "holds", ""
    worse = [s for s in ours if any(map(words.diverged, s.curves))]
    reason = "the loss falls in every run, but not by so much in the steps given"
    if worse:
        chaotic = _common.why_it_fails(every)
        reason = (
            chaotic if words.uncapped(worse[0].config) else "some runs end no lower than they began"
        )
    if not done:
        return "does not hold", reason
    return f"holds under batch {_batches(done)}", reason


def falls(results: Results, subject: str) -> list[Claim]:
    """Whether the loss of every CLR run ends well below where it began, at every batch size."""
    ours = [s for s in _common.settings(results) if s.config.optimizer == "clr"]
    measured = "; ".join(
        f"batch {s.config.batch_size}: {words.number(s.curves[0].loss[0])} to "
        f"{words.losses(s.curves)}"
        for s in ours
    )
    name = words.label(ours[0].config)
    claim = f"{name}: stable and falling loss, {subject}"
    return [Claim(claim, f"training loss {measured}", *_falling(ours))]


def _falling(ours: Sequence[Setting]) -> tuple[str, str]:
    bad = [s for s in ours if any(map(words.diverged, s.curves))]
    good = [s for s in ours if _common.trains(s)]
    idle = [s for s in ours if s not in bad and s not in good]
    if len(good) == len(ours):
        return "holds", ""
    reasons = []
    if bad:
        reasons.append(f"at batch {_batches(bad)} some runs end no lower than they began")
    if idle:
        reasons.append(f"at batch {_batches(idle)} the loss hardly moves in the steps given")
    nothing = "does not hold" if bad else "undecided"
    return (f"holds under batch {_batches(good)}" if good else nothing), "; ".join(reasons)


def _batches(settings: Sequence[Setting]) -> str:
    return ", ".join(str(s.config.batch_size) for s in settings)


def _where(setting: Setting, count: int) -> str:
    return f"batch {setting.config.batch_size}: " if count > 1 else ""


def _percent(share: float) -> str:
    return f"{words.number(100 * share)} %" if math.isfinite(share) else "all"

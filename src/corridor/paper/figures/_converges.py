"""Claims that CLR converges: figures 3, 5, 6 and 9 ask the same of other networks and batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from corridor.paper import words
from corridor.paper.figures import _common
from corridor.paper.figures._manifest import Claim
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
    batches = ", ".join(str(s.config.batch_size) for s in done)
    return f"holds under batch {batches}", reason


def falls(results: Results, subject: str) -> list[Claim]:
    """Whether the loss of every CLR run ends below where it began, at every batch size."""
    ours = [s for s in _common.settings(results) if s.config.optimizer == "clr"]
    bad = [s for s in ours if any(map(words.diverged, s.curves))]
    measured = "; ".join(
        f"batch {s.config.batch_size}: {words.number(s.curves[0].loss[0])} to "
        f"{words.losses(s.curves)}"
        for s in ours
    )
    good = [str(s.config.batch_size) for s in ours if s not in bad]
    verdict = "holds" if not bad else f"holds under batch {', '.join(good)}"
    verdict = verdict if good else "does not hold"
    name = words.label(ours[0].config)
    reason = "some runs end no lower than they began" if bad else ""
    if not bad and min(map(_common.share_left, ours)) > _common.HARDLY:
        verdict, reason = "undecided", "no run fails, but the loss hardly moves in the steps given"
    return [
        Claim(f"{name}: stable and falling loss, {subject}", f"training loss {measured}", verdict,
              reason)
    ]  # fmt: skip


def _where(setting: Setting, count: int) -> str:
    return f"batch {setting.config.batch_size}: " if count > 1 else ""


def _percent(share: float) -> str:
    return f"{words.number(100 * share)} %" if math.isfinite(share) else "all"

"""Numbers and settings in words: labels, table cells, captions, the command that makes it again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

from corridor.paper.curves import Curve, spread
from corridor.paper.results import Group, Results
from corridor.train.config import Config


def label(config: Config) -> str:
    """A setting's name for people, without its batch size.

    >>> label(Config(optimizer="sgd", lr=0.1)), label(Config(optimizer="clr", lr=math.inf))
    ('SGD, rate 0.1', "CLR, no cap (the paper's)")
    """
    if config.optimizer == "sgd":
        return f"SGD, rate {config.lr:g}"
    if config.optimizer == "sps-safe":
        return "SPS-safe, squared norm at least 1"
    if config.optimizer == "half-polyak":
        return "half the step, no cap"
    if config.drift is not None:
        return f"CLR, drift {config.drift:g}"
    if config.lr == math.inf:
        return "CLR, no cap (the paper's)"
    return f"CLR, cap {config.lr:g}"


def diverged(curve: Curve) -> bool:
    """Whether the loss became non-finite, or ended no lower than it began."""
    return curve.status == "diverged" or not curve.final_loss < curve.loss[0]


def number(value: float, digits: int = 2) -> str:
    """A number in a few digits; a dash for none.

    >>> number(0.0123), number(38.0), number(math.inf)
    ('0.012', '38', '–')
    """
    if not math.isfinite(value):
        return "–"
    whole = (value >= 1 and float(value).is_integer()) or 100 <= value < 1e6
    return f"{value:.0f}" if whole else f"{value:.{digits}g}"


def cell(values: Sequence[float | None], digits: int = 2) -> str:
    """Median, and lowest and highest in brackets.

    >>> cell([38, 40, 39]), cell([None]), cell([5, None, None])
    ('39 [38, 40]', 'not reached', 'most fail [5, –]')
    """
    low, mid, high = spread(values)
    if not math.isfinite(low):
        return "not reached"
    same = low == mid == high
    rest = "" if same else f" [{number(low, digits)}, {number(high, digits)}]"
    return (number(mid, digits) if math.isfinite(mid) else "most fail") + rest


def losses(curves: Sequence[Curve]) -> str:
    """Final training losses of some runs."""
    return cell([c.final_loss for c in curves]).replace("not reached", "–")


def accuracy(curves: Sequence[Curve]) -> str:
    """Best test accuracies of some runs, in percent."""
    low, mid, high = (
        f"{100 * v:.1f}" if math.isfinite(v) else "–"
        for v in spread([c.best_accuracy for c in curves])
    )
    return f"{mid} %" + ("" if low == high else f" [{low}, {high}]")


def median(curves: Sequence[Curve], name: str) -> float:
    """Median over runs of one of their numbers, a missing one counting as infinite."""
    return spread([getattr(c, name) for c in curves])[1]


COLUMNS = [
    "optimizer",
    "batch",
    "steps to the target",
    "final training loss",
    "best test accuracy",
    "median step size",
    "largest step size",
    "diverged",
]


def rows(results: Results) -> list[list[str]]:
    """A row for each setting of all groups, under `COLUMNS`."""
    return [
        [
            label(setting.config),
            str(_batch(setting.config, group)),
            cell([c.steps_to_target for c in setting.curves]),
            losses(setting.curves),
            accuracy(setting.curves),
            cell([c.median_lr for c in setting.curves]),
            cell([c.max_lr for c in setting.curves]),
            f"{sum(map(diverged, setting.curves))} of {len(setting.curves)}",
        ]
        for group in results.groups.values()
        for setting in group.settings.values()
    ]


def notes(results: Results) -> list[str]:
    """What a reader should know of the table, and the runs that are missing."""
    return [
        f"Median over {len(results.seeds)} seeds, lowest and highest in brackets.",
        f"The target is a training loss of {results.target:g}. Training loss is the mean of the "
        "batch losses over the last epoch.",
        "Diverged: the loss became non-finite, or ended no lower than it began.",
        *(f"Not in the table: {reason}" for reason in results.failed),
    ]


def caption(results: Results) -> str:
    """Data, network, scale, seeds, hardware and commit."""
    where = results.environment
    machine = where.get("gpu") or f"{where['cores']} cores of {where['processor']}"
    commit = (where.get("git_commit") or "unknown")[:9]
    groups = " ".join(_group(name, g, len(results.groups)) for name, g in results.groups.items())
    seeds = "1 seed" if len(results.seeds) == 1 else f"{len(results.seeds)} seeds"
    band = "" if len(results.seeds) == 1 else " (line: median, shade: range)"
    return (
        f"{groups} No momentum, no weight decay. Scale {results.scale}, {seeds}{band}. "
        f"Made on {machine}, torch {where['torch']}, commit {commit}."
    )


def _group(name: str, group: Group, count: int) -> str:
    configs = [setting.config for setting in group.settings.values()]
    config = configs[0]
    size = f" at {config.image_size} pixels" if config.image_size else ""
    width = f" of width {config.width}" if config.width else ""
    batches = sorted({_batch(c, group) for c in configs})
    augmented = ", cropped and mirrored at random" if config.augment else ""
    lead = f"{name}: " if count > 1 else ""
    images = f"{group.images:,} images of " if group.images else ""
    return (
        f"{lead}{images}{group.data}{size}{augmented}; {config.model}{width}, "
        f"{group.parameters:,} parameters; batch {', '.join(map(str, batches))}."
    )


def _batch(config: Config, group: Group) -> int:
    return min(config.batch_size, group.images or config.batch_size)


def setting(results: Results) -> str:
    """Network, data and seeds in a few words, for the table of verdicts."""
    parts = []
    for group in results.groups.values():
        config = next(iter(group.settings.values())).config
        size = f", {config.image_size} px" if config.image_size else ""
        images = f"{group.images:,} " if group.images else ""
        parts.append(f"{config.model}, {images}{group.data}{size}")
    return f"{results.scale}: {'; '.join(dict.fromkeys(parts))}; {len(results.seeds)} seed(s)"


def again(number: int, scale: str, seeds: Sequence[int], overrides: dict[str, Any]) -> str:
    """The command that makes a figure again."""
    extra = "".join(f" --{k.replace('_', '-')} {shlex.quote(str(v))}" for k, v in overrides.items())
    count = "" if len(seeds) == 3 else f" --seeds {len(seeds)}"
    return f"corridor figure {number} --scale {scale}{extra}{count} --out out"

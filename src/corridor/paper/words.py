"""Numbers and settings in words: labels, table cells, captions, the command that makes it again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
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
    if uncapped(config):
        return "CLR, no cap (the paper's)"
    return f"CLR, cap {config.lr:g}"


def uncapped(config: Config) -> bool:
    """Whether it is the paper's own rule, with nothing to limit the step."""
    return config.optimizer == "clr" and config.lr == math.inf and config.drift is None


def short(config: Config) -> str:
    """What limits the step of a form of CLR.

    >>> short(Config(lr=10.0)), short(Config(drift=1.0))
    ('cap 10', 'drift 1')
    """
    return label(config).removeprefix("CLR, ")


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


def cell(values: Sequence[float | None], digits: int = 2, absent: str = "not reached") -> str:
    """Median, and lowest and highest in brackets; what is said where values are missing.

    >>> cell([38, 40, 39]), cell([None]), cell([5, None])
    ('39 [38, 40]', 'not reached', 'not reached by 1 of 2 [5, –]')
    """
    low, mid, high = spread(values)
    if not math.isfinite(low):
        return absent
    same = low == mid == high
    rest = "" if same else f" [{number(low, digits)}, {number(high, digits)}]"
    missing = sum(value is None or math.isinf(value) for value in values)
    some = f"{absent} by {missing} of {len(values)}"
    return (number(mid, digits) if math.isfinite(mid) else some) + rest


def losses(curves: Sequence[Curve]) -> str:
    """Final training losses of some runs."""
    return cell([c.final_loss for c in curves], absent="no finite loss")


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
        _medians(results),
        f"The target is a training loss of {results.target:g}, a hundredth of ln(classes), which "
        "is what guessing costs. Training loss is the mean of the batch losses over the last "
        "epoch.",
        "Diverged: the loss became non-finite, or ended no lower than it began.",
        *(f"Not in the table: {reason}" for reason in results.failed),
    ]


def _medians(results: Results) -> str:
    if len(results.seeds) == 1:
        return "One seed: its spread is not known."
    return f"Median over {len(results.seeds)} seeds, lowest and highest in brackets."


def caption(results: Results, leads: Mapping[str, str]) -> str:
    """Data, network, scale, seeds, hardware and commit.

    Args:
        results: of the figure.
        leads: what is said before a group, by its name.
    """
    groups = " ".join(
        _group(leads[name], g, len(results.groups)) for name, g in results.groups.items()
    )
    band = "" if len(results.seeds) == 1 else " (line: median, shade: range)"
    return (
        f"{groups} No momentum, no weight decay. Scale {results.scale}, "
        f"{count(results.seeds)}{band}. {made(results.environment)}"
    )


def made(environment: dict[str, Any]) -> str:
    """Hardware, software and commit of the runs."""
    machine = environment.get("gpu") or (
        f"{environment.get('cores', '?')} cores of {environment.get('processor', 'unknown')}"
    )
    torch = environment.get("torch", "unknown")
    return f"Made on {machine}, torch {torch}, commit {commit(environment)}."


def commit(environment: dict[str, Any]) -> str:
    """The commit that made the runs, in short, and whether files had changed since.

    >>> commit({"git_commit": "0123456789abcdef-dirty"}), commit({})
    ('012345678 with changes', 'unknown')
    """
    found = environment.get("git_commit") or "unknown"
    return found[:9] + (" with changes" if found.endswith("-dirty") else "")


def _group(name: str, group: Group, count: int) -> str:
    configs = [setting.config for setting in group.settings.values()]
    batches = sorted({_batch(c, group) for c in configs})
    lead = f"{name}: " if name and count > 1 else ""
    about = subject(configs[0], group.data, group.images, group.parameters)
    return f"{lead}{about}; batch {', '.join(map(str, batches))}."


def subject(config: Config, data: str, images: int, parameters: int) -> str:
    """Images and network of a run, the numbers being those it really had.

    >>> subject(Config(train_limit=5000, width=8), "Digits", 1437, 1234)
    '1,437 images of Digits; mlp of width 8, 1,234 parameters'
    """
    count = f"{images:,} images of " if images else ""
    size = f" at {config.image_size} pixels" if config.image_size else ""
    augmented = ", cropped and mirrored at random" if config.augment else ""
    return f"{count}{data}{size}{augmented}; {network(config)}, {parameters:,} parameters"


def network(config: Config) -> str:
    """The network's name, and its width where that is not its own."""
    return config.model + (f" of width {config.width}" if config.width else "")


def _batch(config: Config, group: Group) -> int:
    return min(config.batch_size, group.images or config.batch_size)


def setting(results: Results) -> str:
    """Network, data and seeds in a few words, for the table of verdicts."""
    return setting_of(results, list(results.groups.values()))


def setting_of(results: Results, groups: Sequence[Group]) -> str:
    """The same, of some of the groups."""
    parts = []
    for group in groups:
        config = next(iter(group.settings.values())).config
        parts.append(place(config, group.data, group.images))
    return f"{results.scale}: {'; '.join(dict.fromkeys(parts))}; {count(results.seeds)}"


def place(config: Config, data: str, images: int) -> str:
    """Network and images in a few words."""
    size = f", {config.image_size} px" if config.image_size else ""
    return f"{network(config)}, {f'{images:,} ' if images else ''}{data}{size}"


def count(seeds: Sequence[int]) -> str:
    """How many seeds.

    >>> count([0]), count([0, 1])
    ('1 seed', '2 seeds')
    """
    return "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def again(number: int, scale: str, seeds: Sequence[int], overrides: dict[str, Any]) -> str:
    """The command that makes a figure again."""
    extra = "".join(f" --{k.replace('_', '-')} {shlex.quote(str(v))}" for k, v in overrides.items())
    count = "" if len(seeds) == 3 else f" --seeds {len(seeds)}"
    return f"corridor figure {number} --scale {scale}{extra}{count} --out out"

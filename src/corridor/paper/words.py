"""Put numbers, settings and results into words: labels, cells, captions and commands."""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from corridor.paper.curves import spread
from corridor.paper.results import Group, Probed, Results, Runs, Setting
from corridor.train.config import Config

COLUMNS: dict[str, Callable[[Group, Setting], str]] = {
    "optimizer": lambda group, setting: label(setting.config),
    "batch": lambda group, setting: str(group.batch(setting)),
    "steps to the target": lambda group, setting: cell(setting.values("steps_to_target")),
    "final training loss": lambda group, setting: losses(setting),
    "best test accuracy": lambda group, setting: accuracy(setting),
    "median step size": lambda group, setting: cell(setting.values("median_lr")),
    "largest step size": lambda group, setting: cell(setting.values("max_lr")),
    "diverged": lambda _, setting: f"{sum(setting.values('diverged'))} of {len(setting.curves)}",
}
# The networks of the paper, by the paper's data set; figures 5 and 6 have others.
NETWORKS = {"CIFAR-10": "ResNet-18", "ImageNet": "ResNet-50"}
OTHER_NETWORKS = {5: "ResNet-50", 6: "VGG-16"}


def label(config: Config) -> str:
    """Return the name of a setting, without its batch size.

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
    """Return True for CLR as in the paper, without a limit on the step."""
    return config.optimizer == "clr" and config.lr == math.inf and config.drift is None


def number(value: float) -> str:
    """Return a number in two digits, or a dash if it is not finite.

    >>> number(0.0123), number(38.0), number(math.inf)
    ('0.012', '38', '–')
    """
    if not math.isfinite(value):
        return "–"
    whole = (value >= 1 and float(value).is_integer()) or 100 <= value < 1e6
    return f"{value:.0f}" if whole else f"{value:.2g}"


def cell(values: Sequence[float | None], absent: str = "not reached") -> str:
    """Return the median, and minimum and maximum in brackets; a missing value is None or inf.

    >>> cell([38, 40, 39]), cell([None]), cell([5, None])
    ('39 [38, 40]', 'not reached', 'not reached by 1 of 2 [5, –]')
    """
    low, mid, high = spread(values)
    if not math.isfinite(low):
        return absent
    missing = sum(value is None or math.isinf(value) for value in values)
    middle = number(mid) if math.isfinite(mid) else f"{absent} by {missing} of {len(values)}"
    return middle + ("" if low == mid == high else f" [{number(low)}, {number(high)}]")


def losses(setting: Setting) -> str:
    """Return the final training losses of the runs."""
    return cell(setting.values("final_loss"), absent="no finite loss")


def accuracy(setting: Setting) -> str:
    """Return the best test accuracies of the runs, in percent."""
    found = spread(setting.values("best_accuracy"))
    low, mid, high = (f"{100 * v:.1f}" if math.isfinite(v) else "–" for v in found)
    return f"{mid} %" + ("" if low == high else f" [{low}, {high}]")


def notes(results: Results) -> list[str]:
    """Return remarks on the table, and the runs that are missing."""
    several = f"Median over {len(results.seeds)} seeds, minimum and maximum in brackets."
    one = "One seed: its spread is unknown."
    return [
        several if len(results.seeds) > 1 else one,
        f"The target is a training loss of {results.target:g}, a hundredth of ln(classes). "
        "Guessing costs ln(classes). Training loss is the mean of the batch losses over the last "
        "epoch.",
        "Diverged: the loss became non-finite, or ended no lower than it began.",
        *(f"Not in the table: {reason}" for reason in results.failed),
    ]


def caption(results: Results) -> str:
    """Return data, network, scale, seeds, hardware and commit."""
    groups = " ".join(_group(results, name) for name in results.groups)
    band = "" if len(results.seeds) == 1 else " (line: median, shade: range)"
    return (
        f"{groups} No momentum, no weight decay. Scale {results.scale}, "
        f"{count(results.seeds)}{band}. {made(results.environment)}"
    )


def _group(results: Results, name: str) -> str:
    group, place = results.groups[name], in_place(results, name)
    sizes = sorted({group.batch(setting) for setting in group.members})
    # Images and network distinguish groups that are not named after data of the paper.
    led = len(results.groups) > 1 and name in NETWORKS
    lead = f"{place[:1].upper()}{place[1:]}: " if led else ""
    return f"{lead}{subject(group)}; batch {', '.join(map(str, sizes))}."


def subject(source: Group | Probed) -> str:
    """Return images, network and number of parameters."""
    config = source.config
    count = f"{source.images:,} images of " if source.images else ""
    size = f" at {config.image_size} pixels" if config.image_size else ""
    augmented = ", cropped and mirrored at random" if config.augment else ""
    parameters = f"{source.parameters:,} parameters"
    return f"{count}{source.data}{size}{augmented}; {network(config)}, {parameters}"


def network(config: Config) -> str:
    """Return the name of the network, and its width where the config sets one."""
    return config.model + (f" of width {config.width}" if config.width else "")


def places(results: Runs, sources: Iterable[Group | Probed]) -> str:
    """Return scale, networks, data and seeds of some groups, for the table of verdicts."""
    parts = "; ".join(dict.fromkeys(map(_place, sources)))
    return f"{results.scale}: {parts}; {count(results.seeds)}"


def _place(source: Group | Probed) -> str:
    images = f"{source.images:,} " if source.images else ""
    size = f", {source.config.image_size} px" if source.config.image_size else ""
    return f"{network(source.config)}, {images}{source.data}{size}"


def count(seeds: Sequence[int]) -> str:
    """Return the number of seeds, with its unit."""
    return "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def made(environment: Mapping[str, Any]) -> str:
    """Return hardware, software and commit of the runs, and whether files had changed since."""
    machine = environment.get("gpu") or (
        f"{environment.get('cores', '?')} cores of {environment.get('processor', 'unknown')}"
    )
    torch, commit = environment.get("torch", "unknown"), environment.get("git_commit") or "unknown"
    changed = " with changes" if commit.endswith("-dirty") else ""
    return f"Made on {machine}, torch {torch}, commit {commit[:9]}{changed}."


def again(number: int, results: Runs) -> str:
    """Return the command that makes a figure again."""
    options = results.overrides.items()
    extra = "".join(f" --{k.replace('_', '-')} {shlex.quote(str(v))}" for k, v in options)
    count = "" if len(results.seeds) == 3 else f" --seeds {len(results.seeds)}"
    return f"corridor figure {number} --scale {results.scale}{extra}{count} --out out"


def absent(figure: int, group: str, config: Config) -> list[str]:
    """Return the paper's data set and network, of a figure and group, that a run does not use.

    >>> absent(2, "CIFAR-10", Config(data="cifar10", model="resnet8"))
    ['ResNet-18']
    """
    network = OTHER_NETWORKS.get(figure, NETWORKS.get(group))
    if network is None:
        return []
    pairs = ((group, config.data), (network, config.model))
    return [name for name, own in pairs if not own.startswith(name.lower().replace("-", ""))]


def replaced(figure: int, sources: Mapping[str, Group | Probed]) -> str:
    """Return a sentence on what replaces the paper's data sets (keys) and networks, or nothing."""
    parts = []
    for data, source in sources.items():
        names = absent(figure, data, source.config)
        own = [source.data if lost == data else network(source.config) for lost in names]
        verb = "replaces" if len(own) == 1 else "replace"
        parts += [f"{' and '.join(own)} {verb} {' and '.join(names)}"] if names else []
    return f"At this scale, {'; '.join(dict.fromkeys(parts))}" if parts else ""


def in_place(results: Results, name: str) -> str:
    """Return the name of a group, or what the group replaces."""
    names = absent(results.figure, name, results.groups[name].config)
    return f"in place of {' and '.join(names)}" if names else name

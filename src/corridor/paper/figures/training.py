"""What the figures made of training curves share: from results to a manifest and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from corridor.paper import words
from corridor.paper.drawing import panels as _panels
from corridor.paper.figure import Claim, Manifest
from corridor.paper.results import Results, Setting
from corridor.train.config import Config

# Set out in full on the page of verdicts and in docs/cap.md.
NO_INTERPOLATION = (
    "loss zero cannot be reached along the gradient here, so that h = E / ||g||^2 grows as ||g|| "
    "shrinks, and the steps turn chaotic"
)
# More than this share of the first loss left: no run fails, but none has trained.
HARDLY = 0.9
# The paper's networks, by figure and group; a group has the name of the paper's data set.
NETWORKS = {
    (2, "CIFAR-10"): "ResNet-18",
    (3, "ImageNet"): "ResNet-50",
    (4, "CIFAR-10"): "ResNet-18",
    (4, "ImageNet"): "ResNet-50",
    (5, "CIFAR-10"): "ResNet-50",
    (6, "CIFAR-10"): "VGG-16",
    (7, "CIFAR-10"): "ResNet-18",
    (8, "ImageNet"): "ResNet-50",
    (9, "CIFAR-10"): "ResNet-18",
}


def settings(results: Results) -> list[Setting]:
    """All settings, of whatever group."""
    return [s for group in results.groups.values() for s in group.settings.values()]


def missing(results: Results) -> list[str]:
    """Which of the paper's data set and network something else took the place of."""
    return [what for name in results.groups for what in missing_of(results, name)]


def missing_of(results: Results, name: str) -> list[str]:
    """The same, of one group."""
    config = next(iter(results.groups[name].settings.values())).config
    return absent(results.figure, name, config)


def absent(figure: int, data: str, config: Config) -> list[str]:
    """Which of the paper's data set and network a run does without."""
    network = NETWORKS.get((figure, data))
    if network is None:
        return []
    wanted = {data: config.data, network: config.model}
    return [name for name, found in wanted.items() if not found.startswith(plain(name))]


def plain(name: str) -> str:
    """A name as configs spell it.

    >>> plain("CIFAR-10"), plain("ResNet-18")
    ('cifar10', 'resnet18')
    """
    return name.lower().replace("-", "")


def in_words(names: Sequence[str]) -> str:
    """What figure and caption say where a stand-in took something's place; empty elsewhere.

    >>> in_words(["ImageNet", "ResNet-50"]), in_words([])
    ('A stand-in for ImageNet and ResNet-50', '')
    """
    *first, last = names or [""]
    return f"A stand-in for {', '.join(first)}{' and ' if first else ''}{last}" if names else ""


def stand_in(results: Results) -> str:
    """What figure and caption say where a stand-in took something's place; empty elsewhere."""
    return in_words(missing(results))


def subject(results: Results, papers: str) -> str:
    """What was trained on what, in a claim's words.

    Args:
        results: of the figure.
        papers: what the paper trained.
    """
    return f"{'a stand-in for ' if missing(results) else ''}{papers}"


def why_it_fails(settings: Sequence[Setting]) -> str:
    """Why CLR without a cap fails, and which of its other forms do not in the same place."""
    forms: dict[str, list[Setting]] = {}
    for setting in settings:
        if setting.config.optimizer != "sgd" and not words.uncapped(setting.config):
            forms.setdefault(words.short(setting.config), []).append(setting)
    good = [name for name, theirs in forms.items() if all(map(trains, theirs))]
    return NO_INTERPOLATION + (f"; mended by {', or by '.join(good)}" if good else "")


def share_left(setting: Setting) -> float:
    """Largest share of the first loss that is left at the end, over the runs of a setting."""
    return max(c.final_loss / c.loss[0] for c in setting.curves)


def trains(setting: Setting) -> bool:
    """Whether every run loses a tenth of its first loss, at least."""
    return share_left(setting) < HARDLY


def epochs(results: Results) -> list[float]:
    """Steps in an epoch, for each of `settings`."""
    return [
        max(1.0, group.images / min(s.config.batch_size, group.images or 1))
        for group in results.groups.values()
        for s in group.settings.values()
    ]


def named(results: Results, name: str) -> str:
    """The group's data set, or what the group stands in for."""
    said = in_words(missing_of(results, name))
    return said[0].lower() + said[1:] if said else name


def manifest(
    results: Results, title: str, claims: Sequence[Claim], leads: Mapping[str, str] | None = None
) -> Manifest:
    """Words and table of a figure, its images still to come."""
    setting = words.setting(results)
    leads = leads or {name: in_words(missing_of(results, name)) or name for name in results.groups}
    absent = stand_in(results)
    return Manifest(
        number=results.figure,
        title=title + (" (a stand-in)" if absent else ""),
        caption=(f"{absent}, for want of the real thing at this scale. " if absent else "")
        + words.caption(results, leads),
        images={},
        claims=[replace(claim, setting=claim.setting or setting) for claim in claims],
        columns=words.COLUMNS,
        rows=words.rows(results),
        notes=words.notes(results),
        again=words.again(results.figure, results.scale, results.seeds, results.overrides),
        environment=results.environment,
    )


def finish(
    manifest: Manifest,
    panels: Sequence[_panels.Panel],
    folder: Path,
    columns: int = 3,
    heading: str = "",
) -> Manifest:
    """Draw the panels and write the manifest beside the images."""
    name = f"fig{manifest.number:02d}"
    images = _panels.draw(panels, folder, name, columns, heading)
    done = replace(manifest, images=images, curves=f"{name}.curves.json")
    done.write(folder)
    return done

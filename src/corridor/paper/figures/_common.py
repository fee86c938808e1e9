"""What the figures made of training curves share: from results to a manifest and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from corridor.paper import words
from corridor.paper.figures import _panels
from corridor.paper.figures._manifest import Claim, Manifest
from corridor.paper.results import Results, Setting

# Set out in full on the page of verdicts and in docs/cap.md.
NO_INTERPOLATION = (
    "loss zero cannot be reached along the gradient here, so that h = E / ||g||^2 grows as ||g|| "
    "shrinks, and the steps turn chaotic"
)
# More than this share of the first loss left: no run fails, but none has trained.
HARDLY = 0.9
# The data sets that each experiment of the paper used, and its network.
PAPERS = {3: "ImageNet", 4: "ImageNet", 8: "ImageNet"}
NETWORKS = {3: "resnet50", 5: "resnet50", 8: "resnet50"}


def settings(results: Results) -> list[Setting]:
    """All settings, of whatever group."""
    return [s for group in results.groups.values() for s in group.settings.values()]


def missing(results: Results) -> list[str]:
    """Which of the paper's data set and network something else took the place of."""
    group = list(results.groups.values())[-1]
    config = next(iter(group.settings.values())).config
    absent = []
    if results.figure in PAPERS and not config.data.startswith("imagenet"):
        absent.append("ImageNet")
    if results.figure in NETWORKS and config.model != NETWORKS[results.figure]:
        absent.append("ResNet-50")
    return absent


def stand_in(results: Results) -> str:
    """What figure and caption say where a stand-in took something's place; empty elsewhere."""
    absent = missing(results)
    return f"A stand-in for {' and '.join(absent)}" if absent else ""


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


def manifest(results: Results, title: str, claims: Sequence[Claim]) -> Manifest:
    """Words and table of a figure, its images still to come."""
    setting = words.setting(results)
    absent = stand_in(results)
    return Manifest(
        number=results.figure,
        title=title + (" (a stand-in)" if absent else ""),
        caption=(f"{absent}, for want of the real thing at this scale. " if absent else "")
        + words.caption(results),
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

"""What the figures made of training curves share: from results to a manifest and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from corridor.paper import words
from corridor.paper.figures import _panels
from corridor.paper.figures._manifest import Claim, Manifest
from corridor.paper.results import Results, Setting

NO_INTERPOLATION = (
    "without a cap h = E / ||g||^2 aims at loss zero; where the network cannot reach it along the "
    "gradient, ||g|| shrinks before the loss does, h grows without bound and the steps turn "
    "chaotic (near a minimum of loss E* > 0 the step map is an exact doubling map)"
)


def settings(results: Results) -> list[Setting]:
    """All settings, of whatever group."""
    return [s for group in results.groups.values() for s in group.settings.values()]


def stand_in(results: Results) -> str:
    """What a caption says first where a stand-in took the place of ImageNet; empty elsewhere."""
    if results.scale == "paper" and "data" not in results.overrides:
        return ""
    return "A stand-in for ImageNet and ResNet-50, for want of the real ones at this scale. "


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
    return Manifest(
        number=results.figure,
        title=title,
        caption=words.caption(results),
        images={},
        claims=[replace(claim, setting=claim.setting or setting) for claim in claims],
        columns=words.COLUMNS,
        rows=words.rows(results),
        notes=words.notes(results),
        again=words.again(results.figure, results.scale, results.seeds, results.overrides),
        environment=results.environment,
    )


def finish(
    manifest: Manifest, panels: Sequence[_panels.Panel], folder: Path, columns: int = 3
) -> Manifest:
    """Draw the panels and write the manifest beside the images."""
    name = f"fig{manifest.number:02d}"
    images = _panels.draw(panels, folder, name, columns)
    done = replace(manifest, images=images, curves=f"{name}.curves.json")
    done.write(folder)
    return done

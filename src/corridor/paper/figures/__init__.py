"""Find a figure by its number, and keep the numbers of figures in the repository."""

from pathlib import Path
from typing import Any

from corridor.paper.figure import DATA, Figure, Manifest
from corridor.paper.figures import fig01_corridors, fig07_geometry, fig09_batch_sizes, fig10_caps
from corridor.paper.figures.training import TRAINING_FIGURES
from corridor.train.folder.files import atomic

_ALL = (
    fig01_corridors.FIGURE, *TRAINING_FIGURES, fig07_geometry.FIGURE, fig09_batch_sizes.FIGURE,
    fig10_caps.FIGURE,
)  # fmt: skip
FIGURES: dict[int, Figure[Any]] = {f.number: f for f in sorted(_ALL, key=lambda f: f.number)}


def figure(number: int) -> Figure[Any]:
    """Return a figure by its number in the paper (10 is an addition), or raise ValueError."""
    if number not in FIGURES:
        known = ", ".join(map(str, FIGURES))
        raise ValueError(f"figure must be one of {known}, got {number}")
    return FIGURES[number]


def keep(out: Path, results: Path) -> list[Path]:
    """Copy the numbers of all trained figures from an output folder to a folder of kept numbers."""
    # Figure 1 trains nothing: it is computed again in seconds.
    names = [made.name for number, made in FIGURES.items() if number != 1]
    files = {name: out / "figures" / name / DATA for name in names}
    return [_copied(f, results / f"{name}.json") for name, f in files.items() if f.exists()]


def _copied(file: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as handle:
        handle.write(file.read_bytes())
    return target


def kept(results: Path) -> dict[int, Path]:
    """Return the files in a folder of kept numbers, by the figures' numbers."""
    files = {}
    for file in sorted(results.glob("fig*.json")):
        number = file.stem.removeprefix("fig")
        if not number.isdigit() or int(number) not in FIGURES:
            raise ValueError(f"{file} must belong to a known figure; remove the file")
        files[int(number)] = file
    if not files:
        raise FileNotFoundError(
            f"no figNN.json in {results}; make them with: corridor reproduce --keep {results}"
        )
    return files


def unpack(results: Path, out: Path) -> dict[int, Path]:
    """Copy kept numbers to ``out/figures/figNN``; return these folders by the figures' numbers."""
    return {
        number: _copied(file, out / "figures" / file.stem / DATA).parent
        for number, file in kept(results).items()
    }


def redraw(results: Path, out: Path) -> list[Manifest]:
    """Draw all figures whose numbers are kept in a folder into another folder, without training."""
    return [figure(number).draw(folder) for number, folder in unpack(results, out).items()]

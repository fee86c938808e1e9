"""Write Markdown from kept numbers: the page of verdicts, and figure 2 in the README."""

import tempfile
from pathlib import Path

from corridor.paper.figure import Manifest
from corridor.paper.figures import figure, kept, unpack
from corridor.paper.recipes import SCALES
from corridor.paper.report import tally, templates
from corridor.train.folder.files import atomic

BEGIN = "<!-- Figure 2, written by `corridor verdicts` from results/: -->"
END = "<!-- end of figure 2 -->"
PICTURE = "docs/pictures/figure2-demo.png"
README_SCALES = {"demo": "At demo scale, on digits", "laptop": "On a part of CIFAR-10"}


def verdicts(results: Path) -> str:
    """Return the page of verdicts, from a folder with one folder of kept numbers per scale."""
    scales = [scale for scale in reversed(SCALES) if (results / scale).is_dir()]
    if not scales:
        command = f"corridor reproduce --scale laptop --keep {results / 'laptop'}"
        raise FileNotFoundError(f"no results in {results}; make them with: {command}")
    found = {
        scale: [figure(number).describe(file) for number, file in kept(results / scale).items()]
        for scale in scales
    }
    return templates().get_template("verdicts.md").render(scales=found, tally=tally)


def write_readme(results: Path, readme: Path) -> None:
    """Write figure 2 between the markers of a README, and its picture to ``docs/pictures``."""
    text = readme.read_text(encoding="utf-8")
    filled = _insert(text, block(results)).encode()
    # Draw before writing, so that a fault leaves the README as it was.
    with tempfile.TemporaryDirectory() as out:
        folder = unpack(results / "demo", Path(out))[2]
        picture = folder / figure(2).draw(folder).images["png"]
        with atomic(readme.parent / PICTURE) as file:
            file.write(picture.read_bytes())
    with atomic(readme) as file:
        file.write(filled)


def _insert(text: str, block: str) -> str:
    """Return the text with the part between the markers replaced by a block.

    >>> _insert(f"a {BEGIN} old {END} b", "new").count("old")
    0
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"README must contain {BEGIN!r} and {END!r} once each; add both lines")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{block}\n{END}{rest.split(END)[1]}"


def block(results: Path) -> str:
    """Return the Markdown between the markers, from a folder of kept numbers per scale."""
    found = {lead: _figure2(results / scale, scale) for scale, lead in README_SCALES.items()}
    page = templates().get_template("readme.md")
    return page.render(title=figure(2).title, picture=PICTURE, scales=found)


def _figure2(folder: Path, scale: str) -> Manifest:
    files = kept(folder)
    if 2 not in files:
        command = f"corridor reproduce --scale {scale} --keep {folder}"
        raise FileNotFoundError(f"no figure 2 in {folder}; make it with: {command}")
    return figure(2).describe(files[2])

"""Figure 2 in the README: picture, tables and verdicts, made from kept results."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from corridor.paper.figure import Manifest
from corridor.paper.figures import fig02_clr_against_fixed as fig02
from corridor.paper.report import pages as committed
from corridor.train.folder.files import atomic

BEGIN = "<!-- Figure 2, written by `corridor verdicts` from results/: -->"
END = "<!-- end of figure 2 -->"
PICTURE = "docs/pictures/figure2-demo.png"
COLUMNS = (0, 2, 3, 4, 6, 7)  # without the batch, which is one, and the median step size
SCALES = {"demo": "In the small, on digits", "laptop": "On a part of CIFAR-10"}


def write(results: Path, readme: Path) -> None:
    """Put figure 2 of the kept results between the markers of a README, and its picture beside.

    Raises:
        FileNotFoundError: results or README are missing.
        ValueError: the README has no markers.
    """
    text = readme.read_text(encoding="utf-8")
    filled = insert(text, block(results)).encode()
    with tempfile.TemporaryDirectory() as out:
        folder = _kept(results, "demo", Path(out))
        picture = folder / fig02.draw(folder).images["png"]
        with atomic(readme.parent / PICTURE) as file:
            file.write(picture.read_bytes())
    with atomic(readme) as file:
        file.write(filled)


def insert(text: str, block: str) -> str:
    """The text with what stands between the markers replaced.

    >>> insert(f"a {BEGIN} old {END} b", "new").count("old")
    0
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"expected the line {BEGIN!r} once and after it {END!r}, to write between")
    inside = re.escape(BEGIN) + ".*" + re.escape(END)
    return re.sub(inside, lambda _: f"{BEGIN}\n\n{block}\n{END}", text, flags=re.DOTALL)


def _kept(results: Path, scale: str, out: Path) -> Path:
    """Figure 2's folder, laid out from a scale's kept results."""
    folders = committed.unpack(results / scale, out)
    if fig02.NUMBER not in folders:
        raise FileNotFoundError(
            f"no figure 2 in {results / scale}; "
            f"make it with: corridor reproduce --scale {scale} --keep {results / scale}"
        )
    return folders[fig02.NUMBER]


def block(results: Path) -> str:
    """The Markdown between the markers."""
    lines = [f"![{fig02.TITLE} on digits: training loss, test accuracy, step size]({PICTURE})"]
    for scale, lead in SCALES.items():
        with tempfile.TemporaryDirectory() as out:
            folder = _kept(results, scale, Path(out))
            lines += _scale(lead, fig02.describe(folder))
    return "\n".join(lines) + "\n"


def _scale(lead: str, manifest: Manifest) -> list[str]:
    cells = [[row[k] for k in COLUMNS] for row in [manifest.columns, *manifest.rows]]
    rows = ["| " + " | ".join(map(committed.escaped, row)) + " |" for row in cells]
    verdicts = [
        f"- **{claim.verdict}**: {claim.claim} ({claim.measured})"
        for claim in manifest.claims
        if "before every fixed rate" in claim.claim
    ]
    head = f"{lead} (`{manifest.again}`): {manifest.caption}"
    note = next(note for note in manifest.notes if note.startswith("The target"))
    table = [rows[0], "|" + "---|" * len(COLUMNS), *rows[1:]]
    return ["", head, "", *table, "", note, "", *verdicts]

"""Results kept in the repository: figures drawn again without runs, and the verdicts' page."""

from __future__ import annotations

import tempfile
from pathlib import Path

from corridor.paper.figure import Manifest
from corridor.paper.figures import FIGURES, figure
from corridor.paper.recipes import SCALES
from corridor.paper.report import tally
from corridor.paper.results import DATA
from corridor.train.folder.files import atomic, dumps, read_json

HEAD = Path(__file__).parent / "verdicts.md"


def keep(out: Path, results: Path) -> list[Path]:
    """Copy the numbers behind the figures of ``out`` to ``results``, in compact form."""
    results.mkdir(parents=True, exist_ok=True)
    made = []
    for number in FIGURES:
        file = out / "figures" / f"fig{number:02d}" / DATA
        if number == 1 or not file.exists():  # figure 1 trains nothing: seconds make it again
            continue
        target = results / f"fig{number:02d}.json"
        with atomic(target) as handle:
            handle.write(dumps(read_json(file)).encode())
        made.append(target)
    return made


def unpack(results: Path, out: Path) -> dict[int, Path]:
    """Lay kept numbers out as figures' folders; returns those by the figure's number.

    Raises:
        FileNotFoundError: there are none; the message names the command that makes them.
        ValueError: a file is that of no figure.
    """
    folders = {}
    for file in sorted(results.glob("fig*.json")):
        number = file.stem.removeprefix("fig")
        if not number.isdigit() or int(number) not in FIGURES:
            raise ValueError(f"{file} holds no figure that is known; remove it")
        folder = out / "figures" / file.stem
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / DATA) as handle:
            handle.write(file.read_bytes())
        folders[int(number)] = folder
    if not folders:
        raise FileNotFoundError(
            f"no figNN.json in {results}; make them with: corridor reproduce --keep {results}"
        )
    return folders


def redraw(results: Path, out: Path) -> list[Manifest]:
    """Draw all figures again from kept numbers."""
    return [figure(number).draw(folder) for number, folder in unpack(results, out).items()]


def verdicts(results: Path) -> str:
    """The page of verdicts as Markdown, from all scales that lie under ``results``.

    Raises:
        FileNotFoundError: there are none.
    """
    parts = [HEAD.read_text(encoding="utf-8")]
    scales = [scale for scale in reversed(SCALES) if (results / scale).is_dir()]
    if not scales:
        raise FileNotFoundError(
            f"no results in {results}; make them with: "
            f"corridor reproduce --scale laptop --keep {results / 'laptop'}"
        )
    for scale in scales:
        with tempfile.TemporaryDirectory() as out:
            folders = unpack(results / scale, Path(out))
            manifests = [figure(number).describe(folder) for number, folder in folders.items()]
        parts.append(_scale(scale, manifests))
    return "\n".join(parts)


def _scale(scale: str, manifests: list[Manifest]) -> str:
    ends = [claim.verdict for manifest in manifests for claim in manifest.claims]
    lines = [f"## Scale {scale}", "", f"Of {len(ends)} claims {tally(ends)}.", "",
             "| Figure | Claim | Setting | Measured | Verdict |",
             "|---|---|---|---|---|"]  # fmt: skip
    for manifest in manifests:
        for claim in manifest.claims:
            because = f": {claim.reason}" if claim.reason else ""
            cells = (claim.claim, claim.setting, claim.measured, f"**{claim.verdict}**{because}")
            lines.append(f"| {manifest.number} | " + " | ".join(map(escaped, cells)) + " |")
    for manifest in manifests:
        lines += ["", f"### Figure {manifest.number}. {manifest.title}", "", manifest.caption, ""]
        lines.append("| " + " | ".join(manifest.columns) + " |")
        lines.append("|" + "---|" * len(manifest.columns))
        lines += ["| " + " | ".join(map(escaped, row)) + " |" for row in manifest.rows]
        lines += ["", *(f"- {note}" for note in manifest.notes), "", f"Again: `{manifest.again}`"]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", "\\|")

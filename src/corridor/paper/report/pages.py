"""Write Markdown from kept numbers: the page of verdicts, and figure 2 in the README."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from corridor.paper.figure import Manifest
from corridor.paper.figures import figure, unpack
from corridor.paper.recipes import SCALES
from corridor.paper.report import tally
from corridor.train.folder.files import atomic

HEAD = Path(__file__).parent / "verdicts.md"
BEGIN = "<!-- Figure 2, written by `corridor verdicts` from results/: -->"
END = "<!-- end of figure 2 -->"
PICTURE = "docs/pictures/figure2-demo.png"
# Without the batch size, which is the same everywhere, and the median step size.
README_COLUMNS = (0, 2, 3, 4, 6, 7)
README_SCALES = {"demo": "At demo scale, on digits", "laptop": "On a part of CIFAR-10"}


def verdicts(results: Path) -> str:
    """Return the page of verdicts, from a folder with one folder of kept numbers per scale.

    Raises:
        FileNotFoundError: there are none; the message contains the command that makes them.
    """
    parts = [HEAD.read_text(encoding="utf-8")]
    scales = [scale for scale in reversed(SCALES) if (results / scale).is_dir()]
    if not scales:
        raise FileNotFoundError(
            f"no results in {results}; make them with: "
            f"corridor reproduce --scale laptop --keep {results / 'laptop'}"
        )
    for scale in scales:
        with _unpacked(results / scale) as folders:
            manifests = [figure(number).describe(folder) for number, folder in folders.items()]
        parts.append("\n".join(_scale(scale, manifests)) + "\n")
    return "\n".join(parts)


@contextmanager
def _unpacked(results: Path) -> Iterator[dict[int, Path]]:
    with tempfile.TemporaryDirectory() as out:
        yield unpack(results, Path(out))


def _scale(scale: str, manifests: Sequence[Manifest]) -> list[str]:
    claims = [(m.number, claim) for m in manifests for claim in m.claims]
    rows = []
    for number, claim in claims:
        because = f": {claim.reason}" if claim.reason else ""
        verdict = f"**{claim.verdict}**{because}"
        rows.append([str(number), claim.claim, claim.setting, claim.measured, verdict])
    counts = tally([claim.verdict for _, claim in claims])
    heads = ["Figure", "Claim", "Setting", "Measured", "Verdict"]
    lines = [
        f"## Scale {scale}",
        "",
        f"Of {len(claims)} claims {counts}.",
        "",
        *_table(heads, rows),
    ]
    for m in manifests:
        lines += ["", f"### Figure {m.number}. {m.title}", "", m.caption, ""]
        lines += _table(m.columns, m.rows)
        lines += ["", *(f"- {note}" for note in m.notes), "", f"Again: `{m.again}`"]
    return lines


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    r"""Return the lines of a Markdown table.

    >>> _table(["a", "b"], [["1", "|x|"]])
    ['| a | b |', '|---|---|', '| 1 | \\|x\\| |']
    """
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    escaped = ([text.replace("|", "\\|") for text in row] for row in rows)
    return lines + ["| " + " | ".join(row) + " |" for row in escaped]


def write_readme(results: Path, readme: Path) -> None:
    """Write figure 2 between the markers of a README, and its picture to ``docs/pictures``.

    Raises:
        FileNotFoundError: results or README are missing.
        ValueError: the README has no markers.
    """
    text = readme.read_text(encoding="utf-8")
    filled = _insert(text, block(results)).encode()
    # Draw before writing, so that a fault leaves the README as it was.
    with _figure2(results, "demo") as folder:
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
    lines = [f"![{figure(2).title} on digits: training loss, test accuracy, step size]({PICTURE})"]
    for scale, lead in README_SCALES.items():
        with _figure2(results, scale) as folder:
            lines += _readme_scale(lead, figure(2).describe(folder))
    return "\n".join(lines) + "\n"


@contextmanager
def _figure2(results: Path, scale: str) -> Iterator[Path]:
    kept = results / scale
    with _unpacked(kept) as folders:
        if 2 not in folders:
            raise FileNotFoundError(
                f"no figure 2 in {kept}; "
                f"make it with: corridor reproduce --scale {scale} --keep {kept}"
            )
        yield folders[2]


def _readme_scale(lead: str, manifest: Manifest) -> list[str]:
    heads, *rows = ([row[k] for k in README_COLUMNS] for row in [manifest.columns, *manifest.rows])
    found = [
        f"- **{claim.verdict}**: {claim.claim} ({claim.measured})"
        for claim in manifest.claims
        if "before every fixed rate" in claim.claim
    ]
    head = f"{lead} (`{manifest.again}`): {manifest.caption}"
    note = next(note for note in manifest.notes if note.startswith("The target"))
    return ["", head, "", *_table(heads, rows), "", note, "", *found]

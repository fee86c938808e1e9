"""Build the report: one HTML file from the manifests, readable without a network."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corridor import _extras
from corridor.paper.figure import MANIFEST, REDRAW, Manifest, read_manifest
from corridor.train.folder.files import atomic

ENDS = {
    "holds": ("holds", "hold"),
    "holds under": ("holds under a condition", "hold under a condition"),
    "only in": ("holds in some seeds only", "hold in some seeds only"),
    "tie": ("is a tie", "are ties"),
    "does not hold": ("does not hold", "do not hold"),
    "undecided": ("is undecided", "are undecided"),
}


def build(out: Path) -> Path:
    """Write ``out/report.html`` from the manifests under ``out/figures``, and return its path."""
    folders = sorted(file.parent for file in out.glob(f"figures/*/{MANIFEST}"))
    if not folders and (out / "config.json").exists():
        raise FileNotFoundError(
            f"{out} must be a folder of figures, got the folder of one run; draw the run with: "
            f"corridor probe {out}, or show it with: corridor train --tensorboard"
        )
    if not folders:
        raise FileNotFoundError(
            f"no figures in {out}; make them with: corridor reproduce --out {out}"
        )
    page = _render([(read_manifest(folder), folder) for folder in folders]).encode()
    with atomic(out / "report.html") as file:
        file.write(page)
    return out / "report.html"


def templates() -> Any:
    """Return the jinja2 templates of this folder; only those in HTML are escaped."""
    with _extras.required("jinja2", extra="paper"):
        from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=PackageLoader("corridor.paper.report", "."), autoescape=select_autoescape(),
        undefined=StrictUndefined, trim_blocks=True,
    )  # fmt: skip


def _render(figures: list[tuple[Manifest, Path]]) -> str:
    parts = [
        {
            "manifest": manifest,
            "image": _embedded(folder / manifest.images["png"]),
            "turning": _data(folder, manifest.interactive),
            "curves": _data(folder, manifest.curves),
        }
        for manifest, folder in figures
    ]
    plotly = ""
    if any(part["turning"] or part["curves"] for part in parts):
        with _extras.required("plotly", extra="paper"):
            from plotly.offline import get_plotlyjs

        plotly = get_plotlyjs()
    claims = [(manifest, claim) for manifest, _ in figures for claim in manifest.claims]
    return templates().get_template("template.html").render({
        "figures": parts,
        "plotly": plotly,
        "claims": claims,
        "tally": tally([claim.verdict for _, claim in claims]),
        "environment": figures[0][0].environment,
    })  # fmt: skip


def tally(verdicts: Sequence[str]) -> str:
    """Return the number of claims per kind of verdict.

    >>> tally(["holds", "holds under batch 16", "only in 1 of 3 seeds", "does not hold"])
    '1 holds, 1 holds under a condition, 1 holds in some seeds only, 1 does not hold'
    """
    kinds = [
        next(kind for kind in ("holds under", "only in", verdict) if verdict.startswith(kind))
        for verdict in verdicts
    ]
    counts = {ends: kinds.count(kind) for kind, ends in ENDS.items()}
    return ", ".join(f"{n} {ends[n > 1]}" for ends, n in counts.items() if n)


def _data(folder: Path, name: str | None) -> str:
    # "</script>" inside the data would end the script element.
    return _existing(folder / name).read_text("utf-8").replace("</", "<\\/") if name else ""


def _embedded(image: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(_existing(image).read_bytes()).decode()


def _existing(file: Path) -> Path:
    if not file.exists():
        raise FileNotFoundError(f"no {file}; {REDRAW}")
    return file

"""Build the report: one HTML file from the manifests, readable without a network."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corridor import _extras
from corridor.paper.figure import MANIFEST, REDRAW, Manifest, read_manifest
from corridor.train.folder.files import atomic

# Words for one claim with a verdict, and for several.
ENDS = {
    "holds": ("holds", "hold"),
    "holds under": ("holds under a condition", "hold under a condition"),
    "only in": ("holds in some seeds only", "hold in some seeds only"),
    "tie": ("is a tie", "are ties"),
    "does not hold": ("does not hold", "do not hold"),
    "undecided": ("is undecided", "are undecided"),
}


def build(out: Path) -> Path:
    """Write ``out/report.html`` from the manifests under ``out/figures``, and return its path.

    Raises:
        FileNotFoundError: there are no figures; the message contains the command that makes them.
    """
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


def _render(figures: list[tuple[Manifest, Path]]) -> str:
    with _extras.required("jinja2", extra="paper"):
        from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("corridor.paper.report", "."), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True,
    )  # fmt: skip
    return environment.get_template("template.html").render(
        figures=[
            {
                "manifest": manifest,
                "image": _embedded(folder / manifest.images["png"]),
                "turning": _part(
                    environment, "interactive.html", manifest.number, folder, manifest.interactive
                ),
                "curves": _part(
                    environment, "curves.html", manifest.number, folder, manifest.curves
                ),
            }
            for manifest, folder in figures
        ],
        plotly=_plotly() if any(m.interactive or m.curves for m, _ in figures) else "",
        claims=[(m, claim) for m, _ in figures for claim in m.claims],
        tally=tally([claim.verdict for m, _ in figures for claim in m.claims]),
        environment=figures[0][0].environment,
    )


def tally(verdicts: Sequence[str]) -> str:
    """Return the number of claims per kind of verdict.

    >>> tally(["holds", "holds under batch 16", "only in 1 of 3 seeds", "does not hold"])
    '1 holds, 1 holds under a condition, 1 holds in some seeds only, 1 does not hold'
    """
    counts = dict.fromkeys(ENDS, 0)
    for verdict in verdicts:
        kind = next((k for k in ("holds under", "only in") if verdict.startswith(k)), verdict)
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(
        f"{n} {ENDS.get(kind, (kind, kind))[n > 1]}" for kind, n in counts.items() if n
    )


def _part(environment: Any, template: str, number: int, folder: Path, name: str | None) -> Any:
    from markupsafe import Markup

    if name is None:
        return ""
    data = _existing(folder / name).read_text(encoding="utf-8")
    # "</script>" inside the data would end the script element.
    payload = Markup(data.replace("</", "<\\/"))
    return Markup(environment.get_template(template).render(number=number, payload=payload))


def _plotly() -> Any:
    from markupsafe import Markup

    with _extras.required("plotly", extra="paper"):
        from plotly.offline import get_plotlyjs

    return Markup(f"<script>{get_plotlyjs()}</script>")


def _embedded(image: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(_existing(image).read_bytes()).decode()


def _existing(file: Path) -> Path:
    if not file.exists():
        raise FileNotFoundError(f"no {file}; {REDRAW}")
    return file

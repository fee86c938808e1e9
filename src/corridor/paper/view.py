"""The geometry of one run, drawn from its folder: its metrics, or else its checkpoints."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corridor.paper.drawing import geometry as _panel
from corridor.paper.figures.fig07_geometry import NEAR, ROWS
from corridor.train.folder.files import numbers, read_lines
from corridor.train.folder.record import read_run
from corridor.train.revisit import measure_checkpoints

NAME = "geometry"


@dataclass(frozen=True)
class View:
    """What was drawn.

    Attributes:
        image: the PNG; an SVG is beside it.
        lines: what was measured, a mapping a step.
        source: "metrics" or "checkpoints".
    """

    image: Path
    lines: list[dict[str, Any]]
    source: str

    def summary(self, level: float) -> str:
        """How near the run was to a corridor, and what its steps met: a line each."""
        near = sum(2.0 * line["rho"] < level for line in self.lines)
        first = (
            f"{len(self.lines)} measurements from the run's {self.source}, "
            f"{near} in a near-corridor (2 rho below {level:g})"
        )
        rows = []
        for name, cell in ROWS.items():
            if name == NEAR:  # said above, at the level asked for
                continue
            # Momentum and Adam take no step along the gradient, and so have no secant.
            with suppress(KeyError):
                rows.append(f"{name}: {cell(self.lines)}")
        return "\n".join([first, *rows])


def view(run: str | Path, *, level: float = 0.5, batches: int = 10) -> View:
    """Draw the panel of figure 7 for a run.

    The lines of its metrics are drawn where it was trained with ``probe``, batch by batch. Else its
    checkpoints are measured, over several batches at once, and written to ``geometry.jsonl``.

    Args:
        run: the run folder, where the image goes, too.
        level: stretches with 2 rho below it are shaded.
        batches: training batches that each checkpoint is measured on.

    Raises:
        FileNotFoundError: there is no run, or neither probed steps nor checkpoints.
        ValueError: the level is not positive, or there are fewer than two measurements.
    """
    if not level > 0.0:
        raise ValueError(f"level must be above 0, got {level}")
    run = Path(run)
    lines, source = [line for line in read_run(run).steps if "rho" in line], "metrics"
    if not lines:
        found = measure_checkpoints(run, batches=batches)
        lines, source = [numbers(line) for line in read_lines(found)], "checkpoints"
    if len(lines) < 2:
        raise ValueError(
            f"the run in {run} holds {len(lines)} measurement to draw, and two are needed; "
            "train with --probe, or keep more checkpoints with --keep"
        )
    images = _panel.draw(lines, run, NAME, level=level)
    return View(run / images["png"], lines, source)

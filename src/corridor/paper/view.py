"""Draw the geometry of one run from its folder: from its metrics, or from its checkpoints."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corridor.paper.drawing import geometry
from corridor.paper.figures.fig07_geometry import NEAR, ROWS, probed
from corridor.train.folder.files import read_lines
from corridor.train.folder.record import read_run
from corridor.train.revisit import measure_checkpoints


@dataclass(frozen=True)
class View:
    """Hold the PNG of a run, and the measurements from its "metrics" or "checkpoints"."""

    image: Path
    lines: list[dict[str, Any]]
    source: str

    def summary(self, level: float) -> str:
        """Return the number of steps with 2 rho below a level, and one line per median."""
        near = sum(geometry.below(line, level) for line in self.lines)
        rows = [
            f"{len(self.lines)} measurements from the run's {self.source}, "
            f"{near} in a near-corridor (2 rho below {level:g})"
        ]
        for name in [name for name in ROWS if name != NEAR]:
            # Steps of momentum and Adam are not along the gradient and have no secant.
            with suppress(KeyError):
                rows.append(f"{name}: {ROWS[name](self.lines)}")
        return "\n".join(rows)


def view(run: str | Path, *, level: float = 0.5, batches: int = 10) -> View:
    """Draw the panels of figure 7 for a run.

    A run that was trained with ``probe`` is drawn from its metrics. Otherwise its checkpoints are
    measured on several batches, and written to ``geometry.jsonl``. Stretches with 2 rho below the
    level are shaded.
    """
    if not level > 0.0:
        raise ValueError(f"level must be above 0, got {level}")
    run = Path(run)
    lines, source = probed(read_run(run)), "metrics"
    if not lines:
        lines, source = read_lines(measure_checkpoints(run, batches=batches)), "checkpoints"
    if len(lines) < 2:
        raise ValueError(
            f"{run} must hold at least 2 measurements, got {len(lines)}; "
            "train with --probe, or keep more checkpoints with --keep"
        )
    images = geometry.draw(lines, run, "geometry", level=level)
    return View(run / images["png"], lines, source)

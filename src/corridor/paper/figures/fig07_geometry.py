"""Draw the loss of a run and the geometry along it: figure 7 for CLR, and `view` for any run."""

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from corridor.paper import words
from corridor.paper.curves import spread
from corridor.paper.drawing import geometry
from corridor.paper.figure import Claim, Figure, Manifest
from corridor.paper.figures.training import describe_trained
from corridor.paper.recipes import RECIPES
from corridor.paper.results import Plan, Probed, checked, end_of
from corridor.train.folder.files import read_lines
from corridor.train.folder.record import RunRecord, read_run
from corridor.train.revisit import measure_checkpoints

LEVEL = 0.5
# Smallest rank correlation with which a claim holds.
ASKED = 0.9
NEAR = "steps in a near-corridor"

NOTES = [
    f"Shaded: near-corridor, where g is predicted to change by less than {LEVEL:.0%} over a CLR "
    f"step (2 rho below {LEVEL:g}).",
    "Pointwise numbers use the Hessian at the point. Secant numbers use the gradients at both ends "
    "of the step, which also depend on the kinks of ReLU.",
    "Rank correlations are over the probed steps of a run, on one batch before and after the step.",
]
RECIPE = RECIPES["figure7"]

Lines = list[dict[str, float]]


def _gather(plan: Plan) -> dict[str, Any]:
    trained = plan.train(RECIPE)
    for run, record in trained:
        if end_of(record)["status"] == "failed":
            raise ValueError(f"{run.name} failed: {end_of(record)['message']}")
    first = trained[0][1]
    return {
        **plan.header(),
        "config": first.config.to_dict(),
        **{name: end_of(first)[name] for name in ("data", "images", "parameters")},
        "environment": first.environment,
        "lines": [probed(record) for _, record in trained],
    }


def probed(record: RunRecord) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics that hold its geometry."""
    return [line for line in record.steps if "rho" in line]


def _describe(figure: Figure[Probed], data: Probed) -> Manifest:
    config = data.config
    batch = min(config.batch_size, data.images or config.batch_size)
    caption = (
        f"{words.subject(data)}. {words.label(config)}, batch {batch}, measured every "
        f"{config.probe} steps on the batch of the step. Scale {data.scale}, "
        f"seed {data.seeds[0]} of {len(data.seeds)} drawn. {words.made(data.environment)}"
    )
    head = ["", *(f"seed {seed}" for seed in data.seeds)]
    table = [head, *([name, *map(cell, data.lines)] for name, cell in ROWS.items())]
    return describe_trained(figure, data, {"CIFAR-10": data}, caption, table, NOTES)


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return Spearman's rank correlation of the finite pairs; ties take their mean rank.

    It is NaN for fewer than three pairs, or if one side is constant.

    >>> round(rank_correlation([1.0, 2.0, 3.0], [1.0, 10.0, 100.0]), 6)
    1.0
    """
    from scipy.stats import spearmanr

    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if len(pairs) < 3 or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return math.nan
    found: Any = spearmanr(pairs)
    return float(found.statistic)


def predicted_loss_ratio(line: dict[str, Any]) -> float:
    """Return ``E_1 / E_0`` of the step, as the pointwise quadratic model predicts it."""
    # t is the step in units of CLR.
    t = line["secant_step"] / line["clr"] if line["clr"] else math.nan
    return 1.0 - t + line["rho_parallel"] * t * t


def loss_correlation(lines: Lines) -> float:
    """Return the rank correlation of predicted and actual loss ratios of the steps."""
    actual = [line["secant_loss_ratio"] for line in lines]
    return rank_correlation([predicted_loss_ratio(line) for line in lines], actual)


def gradient_correlation(lines: Lines) -> float:
    """Return the rank correlation of predicted and actual gradient changes of the steps."""
    predicted = [line["secant_step"] * line["hg_norm"] / line["grad_norm"] for line in lines]
    return rank_correlation(predicted, [line["secant_gradient_change"] for line in lines])


def near_corridor(lines: Lines) -> float:
    """Return the share of probed steps in a near-corridor."""
    return statistics.fmean(geometry.below(line, LEVEL) for line in lines)


def beyond_stability(lines: Lines) -> float:
    """Return the share of probed steps longer than 2 over the largest eigenvalue of H."""
    return statistics.fmean(line["effective_lr"] * line["sharpness"] > 2.0 for line in lines)


def _median(name: str) -> Callable[[Lines], str]:
    return lambda lines: f"{statistics.median(line[name] for line in lines):.3g}"


ROWS: dict[str, Callable[[Lines], str]] = {
    "median rho": _median("rho"),
    "median rho_parallel": _median("rho_parallel"),
    "median secant rho": _median("secant_rho"),
    "median ||Hg|| / ||secant||": _median("secant_smoothness"),
    "median cos(Hg, g)": _median("cosine"),
    "median actual / linear decrease": _median("secant_decrease"),
    "steps beyond 2 / largest eigenvalue": lambda lines: f"{beyond_stability(lines):.0%}",
    NEAR: lambda lines: f"{near_corridor(lines):.0%}",
    "rank correlation, loss ratio": lambda lines: f"{loss_correlation(lines):.3f}",
    "rank correlation, gradient change": lambda lines: f"{gradient_correlation(lines):.3f}",
}


def _claims(data: Probed) -> list[Claim]:
    share = statistics.median(map(beyond_stability, data.lines))
    reason = (
        f"{share:.0%} of the probed steps are longer than 2 / largest eigenvalue, too long for a "
        "model at their start"
    )
    ranked = {
        "the quadratic model with rho_parallel ranks the loss left after a step": loss_correlation,
        "rho, scaled to the step, ranks how much the gradient changes over it": (
            gradient_correlation
        ),
    }
    return [correlated(claim, [*map(found, data.lines)], reason) for claim, found in ranked.items()]


def correlated(claim: str, values: list[float], reason: str = "") -> Claim:
    """Return a claim that holds if the median rank correlation over runs is at least 0.9."""
    low, middle, high = spread([v if math.isfinite(v) else None for v in values])
    if not math.isfinite(middle):
        return Claim(claim, "too few probed steps", "undecided")
    measured = f"rank correlation {middle:.3f} [{low:.3f}, {high:.3f}], at least {ASKED:g} required"
    if middle >= ASKED:
        return Claim(claim, measured, "holds")
    return Claim(claim, measured, "does not hold", reason)


@dataclass(frozen=True)
class View:
    """Hold the PNG of a run, and the measurements from its "metrics" or "checkpoints"."""

    image: Path
    lines: list[dict[str, Any]]
    source: str

    def summary(self, level: float) -> str:
        """Return the number of steps with 2 rho below a level, and one line per median."""
        near = sum(geometry.below(line, level) for line in self.lines)
        from_run = f"{len(self.lines)} measurements from the run's {self.source}"
        rows = [f"{from_run}, {near} in a near-corridor (2 rho below {level:g})"]
        for name in [name for name in ROWS if name != NEAR]:
            # Steps of momentum and Adam are not along the gradient and have no secant.
            with suppress(KeyError):
                rows.append(f"{name}: {ROWS[name](self.lines)}")
        return "\n".join(rows)


def view(run: str | Path, *, level: float = 0.5, batches: int = 10) -> View:
    """Draw figure 7 for a run: from its metrics, or else from its checkpoints on some batches."""
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


FIGURE = Figure(
    number=7,
    title="The geometry along a CLR run",
    gather=_gather,
    read=partial(checked, Probed),
    claims=_claims,
    describe_data=_describe,
    picture=lambda data, folder, name: {
        "images": geometry.draw(data.lines[0], folder, name, level=LEVEL)
    },
    recipes=(RECIPE,),
)

"""Figure 7: the loss of a CLR run and the geometry under it, step by step."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from corridor.paper import experiments, words
from corridor.paper.curves import spread
from corridor.paper.drawing import geometry as _panel
from corridor.paper.figure import Claim, Manifest
from corridor.paper.figures import training as _common
from corridor.paper.figures._probed import DATA, NUMBER, Lines, Probed, read_probed
from corridor.paper.recipes import figure7
from corridor.paper.results import VERSION, rounded
from corridor.train.folder.files import write_json
from corridor.train.folder.record import RunRecord, read_run
from corridor.train.sweep.runs import sweep

NAME = "fig07"
TITLE = "The geometry under a CLR run"
LEVEL = 0.5
ASKED = 0.9
NEAR = "steps in a near-corridor"


def compute(
    out: Path,
    scale: str,
    seeds: Sequence[int] = (0, 1, 2),
    processes: int | None = None,
    **overrides: Any,
) -> Path:
    """Train what is missing and gather the probed steps.

    Args:
        out: runs go to ``out/runs/probed``, the numbers to ``out/figures/fig07/data.json``.
        scale: demo, laptop or paper.
        seeds: one run each; the first is drawn.
        processes: runs at a time.
        overrides: config fields that replace the recipe's.

    Returns:
        The figure's folder.
    """
    runs = figure7(scale, seeds, **overrides)
    folders = sweep(runs, experiments.folder(out, figure7), processes=processes)
    records = [read_run(folder) for folder in folders]
    for run, record in zip(runs, records, strict=True):
        if record.summary is not None and record.summary["status"] == "failed":
            raise ValueError(f"{run.name} failed: {record.summary['message']}")
    first = records[0]
    assert first.summary is not None
    target = out / "figures" / NAME
    target.mkdir(parents=True, exist_ok=True)
    values = {
        "version": VERSION,
        "scale": scale,
        "seeds": list(seeds),
        "overrides": {k: v for k, v in overrides.items() if k != "data_dir"},
        "config": first.config.to_dict(),
        "data": first.summary["data"],
        "images": first.summary["images"],
        "parameters": first.summary["parameters"],
        "environment": first.environment,
        "lines": [probed(record) for record in records],
    }
    write_json(target / DATA, rounded(values))
    return target


def probed(record: RunRecord) -> list[dict[str, Any]]:
    """The lines of a run's metrics that hold its geometry."""
    return [line for line in record.steps if "rho" in line]


def describe(folder: Path) -> Manifest:
    """Words, table and verdicts, without the images."""
    data = read_probed(folder)
    absent = _common.in_words(_common.absent(NUMBER, "CIFAR-10", data.config))
    return Manifest(
        number=NUMBER,
        title=TITLE + (" (a stand-in)" if absent else ""),
        caption=(f"{absent}, for want of the real thing at this scale. " if absent else "")
        + _caption(data),
        images={},
        claims=[replace(claim, setting=_setting(data)) for claim in _claims(data.lines)],
        columns=["", *(f"seed {seed}" for seed in data.seeds)],
        rows=[[name, *map(cell, data.lines)] for name, cell in ROWS.items()],
        notes=[
            f"Shaded: near-corridor, where g is predicted to change by less than {LEVEL:.0%} over "
            "a CLR step (2 rho below that).",
            "Pointwise numbers come from the Hessian at the point; the secant's from the gradients "
            "at both ends of the step made, which also sees the kinks of ReLU.",
            "Rank correlations are over the probed steps of a run, on the same batch before and "
            "after the step.",
        ],
        again=words.again(NUMBER, data.scale, data.seeds, data.overrides),
        environment=data.environment,
    )


def draw(folder: Path) -> Manifest:
    """Draw the figure from its numbers and write images and manifest.

    Raises:
        FileNotFoundError: they are missing; the message names the command that makes them.
    """
    lines = read_probed(folder).lines[0]
    done = replace(describe(folder), images=_panel.draw(lines, folder, NAME, level=LEVEL))
    done.write(folder)
    return done


def _setting(data: Probed) -> str:
    place = words.place(data.config, data.data, data.images)
    return f"{data.scale}: {place}; {words.count(data.seeds)}"


# --- numbers -------------------------------------------------------------------------------------


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's, ties taking their mean rank; NaN of fewer than three finite pairs.

    Example:
        >>> rank_correlation([1.0, 2.0, 3.0], [1.0, 10.0, 100.0])
        1.0
    """
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if len(pairs) < 3:
        return math.nan
    first, second = (_ranks(list(column)) for column in zip(*pairs, strict=True))
    if len(set(first)) == 1 or len(set(second)) == 1:
        return math.nan
    return statistics.correlation(first, second)


def _ranks(values: list[float]) -> list[float]:
    order = sorted(values)
    places: dict[float, list[int]] = {}
    for place, value in enumerate(order):
        places.setdefault(value, []).append(place)
    return [statistics.fmean(places[value]) for value in values]


def predicted_loss_ratio(line: dict[str, Any]) -> float:
    """``E_1 / E_0`` of the step made, by the pointwise quadratic model."""
    t = line["secant_step"] / line["clr"] if line["clr"] else math.nan
    return 1.0 - t + line["rho_parallel"] * t * t


def loss_correlation(lines: Lines) -> float:
    """Of predicted and actual loss ratio over the step made."""
    actual = [line["secant_loss_ratio"] for line in lines]
    return rank_correlation([predicted_loss_ratio(line) for line in lines], actual)


def gradient_correlation(lines: Lines) -> float:
    """Of predicted and actual relative change of the gradient over the step made."""
    predicted = [line["secant_step"] * line["hg_norm"] / line["grad_norm"] for line in lines]
    return rank_correlation(predicted, [line["secant_gradient_change"] for line in lines])


def near_corridor(lines: Lines) -> float:
    """Share of the probed steps with 2 rho below the level."""
    return statistics.fmean(2.0 * line["rho"] < LEVEL for line in lines)


def beyond_stability(lines: Lines) -> float:
    """Share of the probed steps that were longer than 2 over the largest eigenvalue."""
    return statistics.fmean(line["effective_lr"] * line["sharpness"] > 2.0 for line in lines)


def _median(name: str) -> Any:
    return lambda lines: f"{statistics.median(line[name] for line in lines):.3g}"


ROWS: dict[str, Any] = {
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


# --- words ---------------------------------------------------------------------------------------


def _claims(runs: list[Lines]) -> list[Claim]:
    long = statistics.median(beyond_stability(lines) for lines in runs)
    reason = (
        f"{long:.0%} of the probed steps are longer than 2 / largest eigenvalue, too long for a "
        "model at the point they start from"
    )
    return [
        _correlated(
            "the quadratic model with rho_parallel ranks the loss left after a step",
            [loss_correlation(lines) for lines in runs],
            reason,
        ),
        _correlated(
            "rho, scaled to the step made, ranks how much the gradient changes over it",
            [gradient_correlation(lines) for lines in runs],
            reason,
        ),
    ]


def _correlated(claim: str, values: list[float], reason: str = "") -> Claim:
    low, middle, high = spread([v if math.isfinite(v) else None for v in values])
    if not math.isfinite(middle):
        return Claim(claim, "too few probed steps", "undecided")
    measured = f"rank correlation {middle:.3f} [{low:.3f}, {high:.3f}], asked for {ASKED:g}"
    if middle >= ASKED:
        return Claim(claim, measured, "holds")
    return Claim(claim, measured, "does not hold", reason)


def _caption(data: Probed) -> str:
    config, images = data.config, data.images
    batch = min(config.batch_size, images or config.batch_size)
    return (
        f"{words.subject(config, data.data, images, data.parameters)}. "
        f"{words.label(config)}, batch {batch}, measured every {config.probe} steps on the step's "
        f"batch. Scale {data.scale}, seed {data.seeds[0]} of {len(data.seeds)} drawn. "
        f"{words.made(data.environment)}"
    )

"""Figure 2: CLR against fixed learning rates, in training loss, test accuracy and step size."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from corridor.paper.curves import Curve, band, read_curve, spread
from corridor.paper.figures._manifest import Claim, Manifest
from corridor.paper.recipes import figure2
from corridor.train.files import read_json, revive, write_json
from corridor.train.record import read_run
from corridor.train.sweep import sweep

NUMBER = 2
NAME = "fig02"
TARGET = 0.01
DATA = "data.json"


def compute(
    out: Path,
    scale: str,
    seeds: Sequence[int] = (0, 1, 2),
    processes: int | None = None,
    **overrides: Any,
) -> Path:
    """Train what is missing and gather the curves.

    Args:
        out: runs go to ``out/runs/fig02``, the curves to ``out/figures/fig02/data.json``.
        scale: demo, laptop or paper.
        seeds: seeds of every setting.
        processes: runs at a time.
        overrides: config fields that replace the recipe's.

    Returns:
        The figure's folder.
    """
    runs = figure2(scale, seeds, **overrides)
    folders = dict(zip(runs, sweep(runs, out / "runs" / NAME, processes=processes), strict=True))
    settings: dict[str, list[Curve]] = {}
    failed = []
    for run, folder in folders.items():
        record = read_run(folder)
        assert record.summary is not None
        if record.summary["status"] == "failed":
            failed.append(f"{run.name}: {record.summary['message']}")
            continue
        window = sum(line["epoch"] == 0 for line in record.steps)
        curve = read_curve(folder, window, TARGET)
        settings.setdefault(run.name.rsplit("_", 1)[0], []).append(curve)
    if failed:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed, first {failed[0]}")
    first = read_run(folders[runs[0]])
    assert first.summary is not None
    target = out / "figures" / NAME
    target.mkdir(parents=True, exist_ok=True)
    write_json(
        target / DATA,
        {
            "scale": scale,
            "seeds": list(seeds),
            "overrides": overrides,
            "config": first.config.to_dict(),
            "data": first.summary["data"],
            "parameters": first.summary["parameters"],
            "environment": first.environment,
            "cap": _default_cap(),
            "settings": {k: [asdict(c) for c in v] for k, v in settings.items()},
        },
    )
    return target


def _default_cap() -> float:
    from corridor.optim.clr import DEFAULT_MAX_LR

    return DEFAULT_MAX_LR


def draw(folder: Path) -> Manifest:
    """Draw the figure from its curves and write images and manifest.

    Raises:
        FileNotFoundError: the curves are missing; the message names the command that makes them.
    """
    if not (folder / DATA).exists():
        raise FileNotFoundError(f"no {folder / DATA}; make it with: corridor figure {NUMBER}")
    data = revive(read_json(folder / DATA))
    curves = {k: [Curve(**c) for c in v] for k, v in data["settings"].items()}
    images = _plot(folder, curves, data)
    manifest = Manifest(
        number=NUMBER,
        title="CLR against fixed learning rates",
        caption=_caption(data),
        images=images,
        claims=_claims(curves, data),
        columns=[
            "optimizer",
            f"steps to training loss {TARGET:g}",
            "final training loss",
            "best test accuracy",
            "mean step size",
            "diverged",
        ],
        rows=[_row(k, v, data) for k, v in curves.items()],
        notes=[
            f"Median over {len(data['seeds'])} seeds, lowest and highest in brackets.",
            "Training loss is the mean of the batch losses over the last epoch.",
            "The mean step size is taken until the target loss was reached, else over the run.",
            "Diverged: the loss became non-finite, or ended no lower than it began.",
        ],
        again=_again(data),
        environment=data["environment"],
    )
    manifest.write(folder)
    return manifest


# --- words ---------------------------------------------------------------------------------------


def label(name: str, cap: float) -> str:
    """A setting's name for people."""
    if name == "clr-uncapped":
        return "CLR, no cap (the paper's)"
    if name == "clr":
        return f"CLR, default cap {cap:g}"
    return f"SGD, rate {name.removeprefix('sgd-')}"


def diverged(curve: Curve) -> bool:
    """Whether the loss became non-finite, or ended no lower than it began."""
    return curve.status == "diverged" or not curve.final_loss < curve.loss[0]


def _number(value: float, digits: int = 2) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if float(value).is_integer() and value >= 1 else f"{value:.{digits}g}"


def _cell(values: Sequence[float | None], digits: int = 2) -> str:
    low, mid, high = spread(values)
    if not math.isfinite(low):
        return "not reached"
    same = low == mid == high
    rest = "" if same else f" [{_number(low, digits)}, {_number(high, digits)}]"
    return (_number(mid, digits) if math.isfinite(mid) else "most fail") + rest


def _percent(values: Sequence[float]) -> str:
    low, mid, high = (f"{v:.1f}" if math.isfinite(v) else "–" for v in spread(values))
    return f"{mid} %" + ("" if low == high else f" [{low}, {high}]")


def _row(name: str, curves: list[Curve], data: dict[str, Any]) -> list[str]:
    return [
        label(name, data["cap"]),
        _cell([c.steps_to_target for c in curves]),
        _cell([c.final_loss for c in curves]).replace("not reached", "–"),
        _accuracy(curves),
        _cell([c.mean_lr for c in curves]),
        f"{sum(map(diverged, curves))} of {len(curves)}",
    ]


def _caption(data: dict[str, Any]) -> str:
    config, where = data["config"], data["environment"]
    machine = where.get("gpu") or f"{where['cores']} cores of {where['processor']}"
    commit = (where.get("git_commit") or "unknown")[:9]
    images = f"{config['train_limit']} images of " if config["train_limit"] else ""
    size = f" at {config['image_size']} pixels" if config["image_size"] else ""
    width = f" of width {config['width']}" if config["width"] else ""
    return (
        f"Data: {images}{data['data']}{size}. Network: {config['model']}{width}, "
        f"{data['parameters']:,} parameters. Batch {config['batch_size']}, no momentum, no weight "
        f"decay. Scale {data['scale']}, {len(data['seeds'])} seeds (line: median, shade: range). "
        f"Made on {machine}, torch {where['torch']}, commit {commit}."
    )


def _again(data: dict[str, Any]) -> str:
    extra = "".join(
        f" --{k.replace('_', '-')} {shlex.quote(str(v))}"
        for k, v in data["overrides"].items()
        if k != "data_dir"
    )
    seeds = "" if len(data["seeds"]) == 3 else f" --seeds {len(data['seeds'])}"
    local = " --data-dir DIR" if "data_dir" in data["overrides"] else ""
    return f"corridor figure {NUMBER} --scale {data['scale']}{extra}{local}{seeds} --out out"


# --- verdicts ------------------------------------------------------------------------------------


def _median(curves: list[Curve], name: str) -> float:
    return spread([getattr(c, name) for c in curves])[1]


def _claims(curves: dict[str, list[Curve]], data: dict[str, Any]) -> list[Claim]:
    fixed = {k: v for k, v in curves.items() if k.startswith("sgd-")}
    claims = [_first_to_target(curves[name], fixed, name, data) for name in curves if "clr" in name]
    return [*claims, _tests_better(curves["clr-uncapped"], fixed)]


def _first_to_target(
    ours: list[Curve], fixed: dict[str, list[Curve]], name: str, data: dict[str, Any]
) -> Claim:
    steps = _median(ours, "steps_to_target")
    best_name, best_curves = min(
        fixed.items(), key=lambda item: _median(item[1], "steps_to_target")
    )
    best = _median(best_curves, "steps_to_target")
    return Claim(
        claim=f"{label(name, data['cap'])}: reaches training loss {TARGET:g} no later than every "
        "fixed rate",
        measured=f"{_in_steps(ours)}; best of {len(fixed)} fixed rates ({best_name[4:]}): "
        f"{_in_steps(best_curves)}"
        if math.isfinite(min(steps, best))
        else "no setting reached it in the steps given",
        verdict=_verdict(steps, best),
    )


def _in_steps(curves: list[Curve]) -> str:
    cell = _cell([c.steps_to_target for c in curves])
    return f"{cell} steps" if cell[0].isdigit() else cell


def _verdict(steps: float, best: float) -> str:
    if not math.isfinite(min(steps, best)):
        return "undecided"
    return "holds" if steps <= best else "does not hold"


def _tests_better(ours: list[Curve], fixed: dict[str, list[Curve]]) -> Claim:
    rate = statistics.median(c.mean_lr for c in ours)
    larger = {name: runs for name, runs in fixed.items() if float(name[4:]) > rate}
    best_name, best = max(
        larger.items(), key=lambda item: _median(item[1], "best_accuracy"), default=("", [])
    )
    there = f"best larger rate {best_name[4:]}: {_accuracy(best)}" if best else "no larger rate ran"
    return Claim(
        claim="A larger fixed rate tests better than CLR without a cap",
        measured=f"CLR {_accuracy(ours)} at a mean step of {_number(rate)}; {there}",
        verdict=_better(best, ours),
    )


def _accuracy(curves: list[Curve]) -> str:
    return _percent([100.0 * c.best_accuracy for c in curves])


def _better(ones: list[Curve], others: list[Curve]) -> str:
    """Whether ones test better than others; undecided where the ranges over seeds overlap."""
    if not ones:
        return "undecided"
    one, other = (spread([c.best_accuracy for c in curves]) for curves in (ones, others))
    if one[1] <= other[1]:
        return "does not hold"
    return "holds" if one[0] > other[2] else "undecided"


# --- the picture ---------------------------------------------------------------------------------


def _plot(folder: Path, curves: dict[str, list[Curve]], data: dict[str, Any]) -> dict[str, str]:
    import matplotlib

    from corridor.paper.figures import _style

    fixed = [name for name in curves if name.startswith("sgd-")]
    styles = {
        "clr-uncapped": _style.CLR_UNCAPPED,
        "clr": _style.CLR_CAPPED,
        **{name: _style.fixed_rate(i, len(fixed)) for i, name in enumerate(fixed)},
    }
    with matplotlib.rc_context(_style.RC):
        figure = _style.Figure(figsize=(12.5, 4.7), layout="constrained")
        loss, accuracy, step = figure.subplots(1, 3)
        for name, runs in curves.items():
            text = label(name, data["cap"]) + (" (diverged)" if all(map(diverged, runs)) else "")
            shade = 0.2 if name.startswith("clr") else 0.07
            _style.draw_band(loss, band(runs, "loss"), text, styles[name], shade)
            percent = band(runs, "test_accuracy", at="test_steps")
            percent = {k: v if k == "x" else [100 * y for y in v] for k, v in percent.items()}
            _style.draw_band(accuracy, percent, text, styles[name], shade)
            if name.startswith("clr"):
                _style.draw_band(step, band(runs, "effective_lr"), text, styles[name], shade)
            else:
                step.axhline(float(name[4:]), **styles[name])
        began = [c.loss[0] for runs in curves.values() for c in runs]
        initial = max(filter(math.isfinite, began), default=1.0)
        lowest = min(c.final_loss for runs in curves.values() for c in runs)
        loss.set(yscale="log", ylim=(0.5 * min(lowest, TARGET), 4 * initial))
        loss.axhline(TARGET, color="black", linewidth=0.8, linestyle=":")
        loss.annotate("target", (0, TARGET), xytext=(2, 2), textcoords="offset points", fontsize=8)
        loss.set(title="Training loss", ylabel="cross-entropy (nats)", xlabel="steps")
        best = 100 * max(max(c.best_accuracy, 0.0) for runs in curves.values() for c in runs)
        accuracy.set(title="Test accuracy", ylabel="correct (%)", xlabel="steps")
        accuracy.set_ylim(0.5 * best, min(100.5, 1.02 * best + 0.1))
        step.set(title="Step size", ylabel="learning rate", xlabel="steps", yscale="log")
        handles, texts = loss.get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=5, fontsize=9)
        return _style.save(figure, folder, NAME)

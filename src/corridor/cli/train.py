"""Define commands on one run: train it, draw its geometry, export its weights."""

from math import nan
from pathlib import Path
from statistics import median

import click

from corridor.cli.options import PATH, Command, Given, config_options
from corridor.train.config import Config
from corridor.train.folder.record import Summary, read_config, read_run, require_config


@click.command(cls=Command, params=config_options())
@click.option("--out", type=PATH, help="Folder of the run.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Continue RUN, or the run in the folder of --out, with the options of its config.json. "
    "Options that are given replace them if they change no number of the steps made.",
)
@click.option("--progress/--no-progress", default=True, help="Show progress.")
def train(out: Path | None, resume: str | None, progress: bool, options: Given) -> None:
    """Train a network, and write its record to a folder."""
    from corridor.train.loop import train
    from corridor.train.processes import prints, restarts_left

    found = None
    if resume:
        if out is not None and out != Path(resume):
            raise ValueError(f"--out must be the run to resume, got {out}; leave it out")
        out = Path(resume)
        found = require_config(out)
    if out is None:
        raise ValueError("--out must be a folder, got none; give --out, or --resume RUN")
    if resume is not None:
        found = found or read_config(out)
    config = Config.from_dict({**(found.to_dict() if found else {}), **options})
    summary = train(config, out, resume=resume is not None, progress=progress)
    if prints():
        _print_run(out, summary)
    # A launcher would start a failed process again, which repeats the end of a diverged run.
    if summary.status == "diverged" and not restarts_left():
        raise click.exceptions.Exit(1)


def _print_run(out: Path, summary: Summary) -> None:
    speed = f"{summary.images_per_second:,.0f} images/s"
    reason = f" ({summary.message})" if summary.message else ""
    print(f"{summary.status}{reason}: {summary.steps} steps, {summary.seconds:.1f} s, {speed}")
    test = ""
    if summary.final_test_accuracy is not None:
        test = f"test accuracy {summary.final_test_accuracy:.2%} "
        test += f"(best {summary.best_test_accuracy:.2%}), "
    sizes = [line.get("effective_lr", nan) for line in read_run(out).steps] or [nan]
    spread = f"{min(sizes):.3g} to {max(sizes):.3g}, median {median(sizes):.3g}"
    skipped = f", {summary.skipped} steps skipped" if summary.skipped else ""
    loss = nan if summary.final_loss is None else summary.final_loss
    print(f"final loss {loss:.4g}, {test}step size {spread}{skipped}")
    print(f"run folder {out}")


@click.command()
@click.argument("run", type=PATH)
@click.option("--level", default=0.5, help="Shade where 2 rho is below.")
@click.option("--batches", default=10, help="Training batches on which a checkpoint is measured.")
def probe(run: Path, level: float, batches: int) -> None:
    """Draw the geometry of a run, from its probed steps or from its checkpoints."""
    from corridor.paper.figures.fig07_geometry import view

    found = view(run, level=level, batches=batches)
    print(found.summary(level))
    print(f"drawn in {found.image}")


@click.command()
@click.argument("run", type=PATH)
@click.argument("target", type=PATH)
def export(run: Path, target: Path) -> None:
    """Write a run's newest checkpoint to one plain torch file, such as weights.pt."""
    from corridor.train.folder.checkpoint import export

    print(f"checkpoint in {export(run, target)}")

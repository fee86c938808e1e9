"""Define the sweep command, and the options that choose where many runs are trained."""

from collections.abc import Sequence
from pathlib import Path

import click

from corridor.cli.options import CONFIG, PATH, Command, Given, Option, config_options, seeds_below
from corridor.train.folder.record import read_summary
from corridor.train.sweep import runs
from corridor.train.sweep.grid import comparison, parse_axes, read_grid
from corridor.train.sweep.grid import grid as grid_of


def worker_options() -> list[click.Parameter]:
    """Return the options that choose where runs are trained. They enter the dict `workers`."""
    cluster = "HOST:PORT of the head (ray) [default: this machine's cluster]; local starts one."
    rows: list[tuple[list[str], type, str]] = [
        (["--engine", "pool"], str, "serial, local or ray. [default: local]"),
        (["--processes"], int, "Runs at the same time (local) [default: the usable cores]."),
        (["--address"], str, cluster),
        (["--gpus-per-run"], float, "GPUs of a run, or a fraction such as 0.25 (ray)."),
        (["--retries"], int, "Further tries of a run whose worker was lost (ray)."),
    ]
    section = {"heading": "Where it runs", "into": "workers"}
    return [Option(names, kind=kind, help=text, **section) for names, kind, text in rows]


@click.command(
    cls=Command,
    params=[*worker_options(), *config_options([name for name in CONFIG if name != "scale"])],
)
@click.argument("what", required=False)
@click.option("--out", type=PATH, required=True, help="Folder of the runs.")
@click.option("--grid", multiple=True, help="An axis, name=value,value,... (may be repeated).")
@click.option("--seeds", type=int, help="Number of seeds per setting, starting at 0.")
@click.option(
    "--scale",
    help="Scale of a recipe: demo, laptop or paper [default: demo]. "
    "The scale of a run's steps is an axis: --grid scale=0.5,1.",
)
@click.option("--progress/--no-progress", default=True, help="Show progress.")
def sweep(
    what: str | None,
    out: Path,
    grid: Sequence[str],
    seeds: int | None,
    scale: str | None,
    progress: bool,
    options: Given,
    workers: Given,
) -> None:
    """Train every combination of a grid of options.

    WHAT is a grid file (.toml) or the name of a recipe. Without it, the options alone make
    the grid. An option that is given once holds for all runs. Runs that have ended are not
    run again. For example:

    corridor sweep --out runs --data digits --model cnn --grid optimizer=clr,sps-max --seeds 3
    """
    where, found = runs.Workers(**workers), _runs(what, grid, seeds, scale, options)
    folders = runs.sweep(found, out, processes=where, progress=progress)
    summaries = [read_summary(folder) for folder in folders]
    states = [summary.status if summary else "failed" for summary in summaries]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    print(f"{len(folders)} runs in {out}: {counts}")
    for line in comparison([folder.name for folder in folders], summaries):
        print(line)
    for folder, summary in zip(folders, summaries, strict=True):
        if summary is not None and summary.status == "failed":
            print(f"{folder.name}: {summary.message}")
    if "failed" in states:
        raise click.exceptions.Exit(1)


def _runs(
    what: str | None, grid: Sequence[str], seeds: int | None, scale: str | None, fixed: Given
) -> list[runs.Run]:
    """Return the runs of a recipe or of a grid; the `fixed` options hold for all of them."""
    chosen = None if seeds is None else seeds_below(seeds)
    axes = parse_axes(grid)
    if chosen and "seed" in {**fixed, **axes}:
        raise ValueError("seeds and seed were both given; leave seed out")
    both = sorted(fixed.keys() & axes.keys())
    if both:
        raise ValueError(f"{both[0]} was given once for all runs and as an axis; leave one out")
    if what is not None and not what.endswith(".toml"):
        from corridor.paper.recipes import RECIPES

        if what not in RECIPES:
            raise ValueError(
                f"recipe must be one of {', '.join(RECIPES)}, got {what!r}; "
                "a grid file's name ends in .toml"
            )
        if axes:
            raise ValueError(f"recipe {what} has a grid; leave --grid out")
        return RECIPES[what](scale or "demo", chosen or range(3), overrides=fixed)
    if scale is not None:
        axis = f"for the option of a run, use an axis: --grid scale={scale}"
        raise ValueError(f"--scale {scale} needs a recipe; {axis}")
    if chosen:
        axes["seed"] = list(chosen)
    options = {**fixed, **axes}
    return grid_of(options) if what is None else read_grid(what, options)

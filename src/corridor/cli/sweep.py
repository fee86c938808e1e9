"""The sweep command, and the options that say where many runs are trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from corridor.cli.options import CONFIG, PATH, Command, Option, config_options, given, seeds_below
from corridor.train.folder.record import read_summary
from corridor.train.sweep.grid import comparison, parse_axes, read_grid
from corridor.train.sweep.grid import grid as grid_of
from corridor.train.sweep.runs import POOLS, Run, Workers, sweep


def worker_options() -> list[click.Option]:
    """Return the options that say where runs are trained."""
    cores = "Runs at the same time (local) [default: the number of usable cores]."
    cluster = (
        "HOST:PORT of the cluster's head (ray) [default: the cluster of this machine]; "
        "local starts a cluster here."
    )
    rows: list[tuple[list[str], type, str]] = [
        (["--engine", "pool"], str, f"{', '.join(POOLS[:-1])} or {POOLS[-1]}. [default: local]"),
        (["--processes"], int, cores),
        (["--address"], str, cluster),
        (["--gpus-per-run"], float, "GPUs of a run, or a fraction such as 0.25 (ray)."),
        (["--retries"], int, "Further tries of a run whose worker was lost (ray)."),
    ]
    heading = "Where it runs"
    return [Option(names, type=kind, help=text, heading=heading) for names, kind, text in rows]


def take_workers(options: dict[str, Any]) -> Workers:
    """Take the options of `worker_options` out of all options."""
    return Workers(**given({str(o.name): options.pop(str(o.name)) for o in worker_options()}))


def _sweep(out: Path, progress: bool, **options: Any) -> None:
    workers = take_workers(options)
    folders = sweep(_runs(**options), out, processes=workers, progress=progress)
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
    what: str | None, grid: Sequence[str], seeds: int | None, scale: str | None, **options: Any
) -> list[Run]:
    """Return the runs of a recipe or of a grid; the other options hold for all of them."""
    chosen = None if seeds is None else seeds_below(seeds)
    fixed, axes = given(options), parse_axes(grid)
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
            raise ValueError(f"recipe {what} has a grid of its own; leave --grid out")
        return RECIPES[what](scale or "demo", chosen or range(3), overrides=fixed)
    if scale is not None:
        raise ValueError(
            f"--scale {scale} needs a recipe; for the option of a run, use an axis: "
            f"--grid scale={scale}"
        )
    if chosen:
        axes["seed"] = list(chosen)
    options = {**fixed, **axes}
    return grid_of(options) if what is None else read_grid(what, options)


COMMANDS = (
    Command(
        "sweep",
        callback=_sweep,
        help="""Train every combination of a grid of options.

        WHAT is a grid file (.toml) or the name of a recipe. Without it, the options alone make
        the grid. An option that is given once holds for all runs. Runs that have ended are not
        run again. For example:

        corridor sweep --out runs --data digits --model cnn --grid optimizer=clr,sps-max --seeds 3
        """,
        params=[
            click.Argument(["what"], required=False),
            click.Option(["--out"], type=PATH, required=True, help="Folder of the runs."),
            click.Option(
                ["--grid"],
                multiple=True,
                help="An axis of the grid, name=value,value,...; may be given several times.",
            ),
            click.Option(["--seeds"], type=int, help="Number of seeds per setting, starting at 0."),
            click.Option(
                ["--scale"],
                help="Scale of a recipe: demo, laptop or paper [default: demo]. "
                "The scale of a run's steps is an axis: --grid scale=0.5,1.",
            ),
            click.Option(["--progress/--no-progress"], default=True, help="Show progress."),
            *worker_options(),
            *config_options([name for name in CONFIG if name != "scale"]),
        ],
    ),
)

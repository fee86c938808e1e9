"""The sweep command, and the options that say where many runs are trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from corridor.cli.options import FOLDER, Command, Option, config_options, given
from corridor.train.folder.record import Summary, read_summary
from corridor.train.sweep.grid import grid, parse_axes, read_grid
from corridor.train.sweep.runs import POOLS, Run, Workers, sweep
from corridor.train.sweep.table import comparison

HEADING = "Where it runs"


def worker_options() -> list[click.Option]:
    """Return the options that say where runs are trained."""
    cluster = (
        "HOST:PORT of the cluster's head (ray) [default: the cluster of this machine]; "
        "local starts a cluster here."
    )
    return [
        Option(
            ["--engine", "pool"],
            default="local",
            show_default=True,
            help=f"{', '.join(POOLS[:-1])} or {POOLS[-1]}.",
            heading=HEADING,
        ),
        Option(
            ["--processes"],
            type=int,
            help="Runs at the same time (local) [default: the number of usable cores].",
            heading=HEADING,
        ),
        Option(["--address"], help=cluster, heading=HEADING),
        Option(
            ["--gpus-per-run"],
            type=float,
            help="GPUs of a run, or a fraction such as 0.25 (ray).",
            heading=HEADING,
        ),
        Option(
            ["--retries"],
            type=int,
            help="Further tries of a run whose worker was lost (ray).",
            heading=HEADING,
        ),
    ]


def take_workers(options: dict[str, Any]) -> Workers:
    """Take the options of `worker_options` out of all options."""
    return Workers(**{str(o.name): options.pop(str(o.name)) for o in worker_options()})


def _sweep(
    what: str | None,
    out: Path,
    grid: Sequence[str],
    seeds: int | None,
    scale: str | None,
    progress: bool,
    **options: Any,
) -> None:
    workers = take_workers(options)
    runs = _runs(what, grid, seeds, scale, given(options))
    folders = sweep(runs, out, processes=workers, progress=progress)
    summaries = {folder: read_summary(folder) for folder in folders}
    print(f"{len(folders)} runs in {out}: {_counts(list(summaries.values()))}")
    for line in comparison([folder.name for folder in folders], list(summaries.values())):
        print(line)
    failed = {f: s for f, s in summaries.items() if s is None or s.status == "failed"}
    for folder, summary in failed.items():
        if summary is not None:
            print(f"{folder.name}: {summary.message}")
    if failed:
        raise click.exceptions.Exit(1)


def _counts(summaries: Sequence[Summary | None]) -> str:
    """Return the number of runs per status, such as ``3 finished, 1 failed``."""
    states = [summary.status if summary else "failed" for summary in summaries]
    return ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))


def _runs(
    what: str | None,
    words: Sequence[str],
    seeds: int | None,
    scale: str | None,
    fixed: dict[str, Any],
) -> list[Run]:
    """Return the runs of a recipe or of a grid; `fixed` holds for all of them."""
    if seeds is not None and seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}; give the number of seeds")
    axes = parse_axes(words)
    if seeds is not None and "seed" in {**fixed, **axes}:
        raise ValueError("seeds and seed were both given; leave seed out")
    both = sorted(fixed.keys() & axes.keys())
    if both:
        raise ValueError(f"{both[0]} was given once for all runs and as an axis; leave one out")
    if what is not None and not what.endswith(".toml"):
        return _of_recipe(what, axes, seeds, scale or "demo", fixed)
    if scale is not None:
        raise ValueError(
            f"--scale {scale} needs a recipe; for the option of a run, use an axis: "
            f"--grid scale={scale}"
        )
    if seeds is not None:
        axes["seed"] = list(range(seeds))
    return grid({**fixed, **axes}) if what is None else read_grid(what, {**fixed, **axes})


def _of_recipe(
    what: str, axes: dict[str, Any], seeds: int | None, scale: str, fixed: dict[str, Any]
) -> list[Run]:
    from corridor.paper.recipes import RECIPES

    if what not in RECIPES:
        raise ValueError(
            f"recipe must be one of {', '.join(RECIPES)}, got {what!r}; "
            "a grid file's name ends in .toml"
        )
    if axes:
        raise ValueError(f"recipe {what} has a grid of its own; leave --grid out")
    return RECIPES[what](scale, range(3 if seeds is None else seeds), overrides=fixed)


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
            click.Option(["--out"], type=FOLDER, required=True, help="Folder of the runs."),
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
            *config_options(left_out=("scale",), optional=True),
        ],
    ),
)

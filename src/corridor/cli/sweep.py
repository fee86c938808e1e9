"""The sweep command, and the options of all commands that train many runs."""

import inspect
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from corridor.train.config import Config
from corridor.train.folder.record import read_summary
from corridor.train.sweep.grid import grid, parse_axes, read_grid
from corridor.train.sweep.runs import Run, sweep
from corridor.train.sweep.table import comparison
from corridor.train.sweep.workers import ENGINES, Workers

_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_PANEL = "Where it runs"
_ENGINE: dict[str, tuple[Any, Any, str]] = {
    "engine": (str, "local", f"{', '.join(ENGINES[:-1])} or {ENGINES[-1]}."),
    "processes": (int | None, None, "Runs at a time (local); the usable cores by default."),
    "address": (
        str | None,
        None,
        "HOST:PORT of the cluster's head (ray); by default the cluster this machine is part of, "
        "and local starts one here.",
    ),
    "gpus_per_run": (float | None, None, "GPUs of a run, or a fraction such as 0.25 (ray)."),
    "retries": (int | None, None, "Further tries of a run whose worker was lost (ray)."),
    "store": (str | None, None, "URL for runs in progress, where hosts share no file system."),
}


def engine_options() -> list[inspect.Parameter]:
    """The options that say where runs are trained."""
    return [
        _option(name, kind, default, help, _PANEL)
        for name, (kind, default, help) in _ENGINE.items()
    ]


def take_workers(options: dict[str, Any]) -> Workers:
    """Take the options of `engine_options` out of all options."""
    return Workers(**{name: options.pop(name) for name in _ENGINE})


def options(config_options: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    """The options of the sweep command.

    Args:
        config_options: Those of a single run; here each may be left out.
    """
    what = "A grid file (.toml) or the name of a recipe; nothing for the options alone."
    axes = "name=value,value,...: an axis of the grid; may be given several times."
    scale = "demo (the default), laptop or paper, of a recipe; a run's own: --grid scale=0.5,1."
    return [
        inspect.Parameter(
            "what",
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None,
            annotation=Annotated[str | None, typer.Argument(help=what)],
        ),
        inspect.Parameter(
            "out", _KEYWORD, annotation=Annotated[Path, typer.Option(help="Folder of the runs.")]
        ),
        _option("grid", list[str] | None, None, axes, None),
        _option("seeds", int | None, None, "So many seeds of every setting, from 0.", None),
        _option("scale", str | None, None, scale, None),
        _option("progress", bool, True, "Show progress.", None),
        *engine_options(),
        *(_left_out(option) for option in config_options if option.name != "scale"),
    ]


def run(
    what: str | None,
    out: Path,
    grid: list[str] | None,
    seeds: int | None,
    scale: str | None,
    progress: bool,
    **options: Any,
) -> None:
    """Train every combination of a grid of options; runs that have ended are not run again.

    What is given once holds for all runs. For example

    corridor sweep --out runs --data digits --model cnn --grid optimizer=clr,sps-max --seeds 3
    """
    workers = take_workers(options)
    given = {name: value for name, value in options.items() if value is not None}
    runs = _runs(what, grid or [], seeds, scale, given)
    folders = sweep(runs, out, processes=workers, progress=progress)
    summaries = {folder: read_summary(folder) for folder in folders}
    states = [summary.status if summary else "failed" for summary in summaries.values()]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    print(f"{len(folders)} runs in {out}: {counts}")
    for line in comparison([folder.name for folder in folders], list(summaries.values())):
        print(line)
    for folder, summary in summaries.items():
        if summary and summary.status == "failed":
            print(f"{folder.name}: {summary.message}")
    if "failed" in states:
        raise typer.Exit(1)


def _runs(
    what: str | None,
    words: list[str],
    seeds: int | None,
    scale: str | None,
    given: dict[str, Any],
) -> list[Run]:
    if seeds is not None and seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    axes = parse_axes(words)
    if seeds is not None and "seed" in {**given, **axes}:
        raise ValueError("seeds says which seeds every setting gets; leave seed out")
    twice = sorted(given.keys() & axes.keys())
    if twice:
        raise ValueError(f"{twice[0]} is given once for all runs and as an axis; leave one out")
    if what is None or what.endswith(".toml"):
        if scale is not None:
            raise ValueError(
                f"scale {scale} is that of a recipe, and there is none; a run's own scale is an "
                f"axis: --grid scale={scale}"
            )
        if seeds is not None:
            axes["seed"] = list(range(seeds))
        return grid({**given, **axes}) if what is None else read_grid(what, {**given, **axes})
    return _of_recipe(what, axes, seeds, scale or "demo", given)


def _of_recipe(
    what: str, axes: dict[str, Any], seeds: int | None, scale: str, given: dict[str, Any]
) -> list[Run]:
    from corridor.paper.recipes import RECIPES

    if what not in RECIPES:
        raise ValueError(
            f"unknown recipe {what!r}; known are {', '.join(RECIPES)}; a grid file ends in .toml"
        )
    if axes:
        raise ValueError(f"a recipe is a grid of its own; leave --grid out with {what}")
    if seeds is not None:
        given = {**given, "seeds": range(seeds)}
    return RECIPES[what](scale, **given)


def _option(name: str, kind: Any, default: Any, help: str, panel: str | None) -> inspect.Parameter:
    option = typer.Option(help=help, rich_help_panel=panel)
    return inspect.Parameter(name, _KEYWORD, default=default, annotation=Annotated[kind, option])


def _left_out(option: inspect.Parameter) -> inspect.Parameter:
    """The same option with no default of its own."""
    kind = option.annotation.__args__[0]
    (told,) = option.annotation.__metadata__
    (entry,) = (entry for entry in fields(Config) if entry.name == option.name)
    default = "" if entry.default is None else f" [default: {entry.default}]"
    return _option(option.name, kind | None, None, told.help + default, told.rich_help_panel)

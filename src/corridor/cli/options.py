"""Options of the command line that are made from the fields of the config."""

from collections.abc import Container
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import click

from corridor.train.config import Config

PATH = click.Path(path_type=Path)
CONFIG = tuple(entry.name for entry in fields(Config))


class Option(click.Option):
    """An option that ``--help`` lists under a heading of its own."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


class Command(click.Command):
    """A command whose ``--help`` groups the options by their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, one section per heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "heading", "Options"), []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def config_options(
    names: Container[str] = CONFIG, *, heading: str | None = None
) -> list[click.Option]:
    """Return one option per field of the config. Options that are not given are None.

    The heading replaces the fields' own headings.
    """
    options: list[click.Option] = []
    for entry in (entry for entry in fields(Config) if entry.name in names):
        kind: Any = next(t for t in (*get_args(entry.type), entry.type) if t is not type(None))
        flag = entry.name.replace("_", "-")
        shown = "" if entry.default is None else f" [default: {entry.default}]"
        options.append(
            Option(
                [f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"],
                type=kind,
                default=None,
                help=entry.metadata["help"] + shown,
                heading=heading or entry.metadata["group"],
            )
        )
    return options


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, which are those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def seeds_below(count: int) -> range:
    """Return the seeds from 0, or raise ValueError if there are none."""
    if count < 1:
        raise ValueError(f"seeds must be at least 1, got {count}; give the number of seeds")
    return range(count)

"""Make options of the command line from the fields of the config."""

from collections.abc import Container, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias, get_args

import click

from corridor.train.config import Config

Given: TypeAlias = dict[str, Any]
PATH = click.Path(path_type=Path)
CONFIG = tuple(entry.name for entry in fields(Config))


class Option(click.Option):
    """Define an option that enters a dict if it is given. ``--help`` lists it under a heading."""

    def __init__(self, names: Sequence[str], *, kind: Any, help: str, heading: str, into: str):
        super().__init__(
            names, type=kind, default=None, help=help, expose_value=False, callback=self.enter
        )
        self.heading, self.into = heading, into

    def enter(self, context: click.Context, param: click.Parameter, value: Any) -> None:
        """Put a given value into the callback's dict."""
        given = context.params.setdefault(self.into, {})
        if value is not None:
            given[self.name] = value


class Command(click.Command):
    """Define a command whose ``--help`` groups the options by their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, one section per heading."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "heading", "Options"), []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def config_options(
    names: Container[str] = CONFIG, *, heading: str | None = None
) -> list[click.Parameter]:
    """Return one option per config field, which enters the dict `options` if it is given."""
    options: list[click.Parameter] = []
    for entry in (entry for entry in fields(Config) if entry.name in names):
        kind: Any = next(t for t in (*get_args(entry.type), entry.type) if t is not type(None))
        flag = entry.name.replace("_", "-")
        flags = [f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"]
        shown = "" if entry.default is None else f" [default: {entry.default}]"
        section = heading or entry.metadata["group"]
        help = entry.metadata["help"] + shown
        options.append(Option(flags, kind=kind, help=help, heading=section, into="options"))
    return options


def seeds_below(count: int) -> range:
    """Return the seeds from 0, or raise ValueError if there are none."""
    if count < 1:
        raise ValueError(f"seeds must be at least 1, got {count}; give the number of seeds")
    return range(count)

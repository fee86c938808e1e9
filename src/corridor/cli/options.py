"""Options of the command line that are made from the fields of the config."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import click

from corridor.train.config import Config

FOLDER = click.Path(path_type=Path)
FILE = click.Path(path_type=Path)


class Option(click.Option):
    """An option that ``--help`` lists under a heading of its own."""

    def __init__(self, *args: Any, heading: str = "Options", **kwargs: Any) -> None:
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
    names: Collection[str] | None = None, *, left_out: Collection[str] = (), optional: bool = False
) -> list[click.Option]:
    """Return one option per field of the config, with the field's own help.

    Args:
        names: Fields to make options of (default: all).
        left_out: Fields to make no option of (default: none).
        optional: True for options that are None where they are not given (default: False).
    """
    return [
        _config_option(entry, optional)
        for entry in fields(Config)
        if (names is None or entry.name in names) and entry.name not in left_out
    ]


def _config_option(entry: Any, optional: bool) -> click.Option:
    kind = next(t for t in (*get_args(entry.type), entry.type) if t is not type(None))
    flag = "--" + entry.name.replace("_", "-")
    shown = entry.metadata["help"]
    if optional and entry.default is not None:
        shown += f" [default: {entry.default}]"
    return Option(
        [f"{flag}/--no-{flag[2:]}" if kind is bool else flag],
        type=None if kind is bool else kind,
        default=None if optional else entry.default,
        show_default=not optional and entry.default is not None,
        help=shown,
        heading=entry.metadata["group"],
    )


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, which are those that are not None."""
    return {name: value for name, value in options.items() if value is not None}

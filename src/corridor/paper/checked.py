"""Dataclasses from JSON values that a person, or another version, may have written."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from corridor.train.folder.files import numbers, read_json


def build(cls: type, values: Any, where: str = "") -> Any:
    """An instance whose every field, however nested, holds what its annotation says.

    Args:
        cls: a dataclass of plain types, lists, mappings by name, and such dataclasses.
        values: JSON values by field name; an int serves as a float.
        where: what to call the place of the values in a message.

    Raises:
        ValueError: a field is missing, unknown or of another type; the message names it.

    Example:
        >>> from corridor.paper.figure import Claim
        >>> build(Claim, {"claim": "a", "measured": 3, "verdict": "holds"})
        Traceback (most recent call last):
        ValueError: measured is of type int, expected str
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or 'it'} is of type {_kind(values)}, expected an object")
    hints = get_type_hints(cls)
    known = [entry.name for entry in fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{_at(where, unknown[0])} is not known")
    made = {name: _value(hints[name], values[name], _at(where, name)) for name in known
            if name in values}  # fmt: skip
    try:
        return cls(**made)
    except TypeError as error:  # it says which field is missing
        raise ValueError(f"{where or 'it'}: {str(error).split(') ')[-1].split('() ')[-1]}") from (
            error
        )


@contextmanager
def reading(file: Path, again: str) -> Iterator[None]:
    """One line of ValueError, naming the file and the way out, for whatever is wrong in it."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        text = str(reason).removeprefix(f"{file} ")
        raise ValueError(f"{file} cannot be read: {text}; {again}") from error


@contextmanager
def figure(file: Path, number: int, version: int) -> Iterator[dict[str, Any]]:
    """The values that a figure's file holds; what the block finds wrong is one line, as `reading`.

    Raises:
        FileNotFoundError: it is not there; the message names the command that makes it.
        ValueError: another version wrote it, or it is damaged.
    """
    if not file.exists():
        raise FileNotFoundError(f"no {file}; make it with: corridor figure {number}")
    with reading(file, f"make it again with: corridor figure {number}"):
        yield of_version(numbers(read_json(file)), version)


def of_version(values: dict[str, Any], version: int) -> dict[str, Any]:
    """The values without their version.

    Raises:
        ValueError: it is another one.
    """
    found = values.pop("version", "none")
    if found != version:
        raise ValueError(f"it is of version {found} and this corridor reads version {version}")
    return values


def _value(annotation: Any, value: Any, where: str) -> Any:
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin in (types.UnionType, Union):
        if value is None and type(None) in inside:
            return None
        return _value(next(k for k in inside if k is not type(None)), value, where)
    if origin is list:
        if isinstance(value, list):
            return [_value(inside[0], item, f"{where}[{k}]") for k, item in enumerate(value)]
        raise ValueError(f"{where} is of type {_kind(value)}, expected a list")
    if origin is dict:
        if isinstance(value, dict):
            return {key: _value(inside[1], item, _at(where, key)) for key, item in value.items()}
        raise ValueError(f"{where} is of type {_kind(value)}, expected an object")
    if is_dataclass(annotation):
        return value if type(value) is annotation else build(annotation, value, where)  # pyright: ignore
    if annotation is float and type(value) is int:
        return float(value)
    if type(value) is not annotation:
        raise ValueError(f"{where} is of type {_kind(value)}, expected {annotation.__name__}")
    return value


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else str(name)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__

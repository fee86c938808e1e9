"""Dataclasses from JSON values that may be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from corridor.paper import checked


@dataclass(frozen=True)
class Inner:
    value: float
    name: str | None = None


@dataclass(frozen=True)
class Outer:
    count: int
    parts: list[Inner]
    by_name: dict[str, list[float]]


GOOD = {"count": 1, "parts": [{"value": 2}], "by_name": {"a": [1.0, 2]}}


def test_what_fits_is_built_and_whole_numbers_serve_as_floats():
    made = checked.build(Outer, GOOD)
    assert made == Outer(1, [Inner(2.0)], {"a": [1.0, 2.0]})
    assert type(made.by_name["a"][1]) is float


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 1.5}, "count is of type float, expected int"),
        ({"count": True}, "count is of type bool, expected int"),
        ({"parts": {}}, "parts is of type dict, expected a list"),
        ({"parts": [{"value": "2"}]}, r"parts\[0\]\.value is of type str, expected float"),
        ({"parts": [{}]}, r"parts\[0\]: .*'value'"),
        ({"parts": [{"value": 1, "more": 2}]}, r"parts\[0\]\.more is not known"),
        ({"parts": [{"value": 1, "name": 2}]}, r"name is of type int, expected str"),
        ({"by_name": None}, "by_name is of type null, expected an object"),
        ({"by_name": {"a": [None]}}, r"by_name\.a\[0\] is of type null"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, words: str):
    with pytest.raises(ValueError, match=words):
        checked.build(Outer, GOOD | change)


def test_a_reader_names_the_file_and_the_way_out():
    for error in (KeyError("loss"), TypeError("no"), ValueError("bad")):
        with (
            pytest.raises(ValueError, match=r"a\.json cannot be read: .*; do this"),
            checked.reading(Path("a.json"), "do this"),
        ):
            raise error

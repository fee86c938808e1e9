"""Numbers of figures: read as they were written, and damaged files are one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.paper.made_up import KEPT

from corridor.paper.curves import read_curve, reading
from corridor.paper.figures import FIGURES, figure, keep, unpack
from corridor.paper.results import STRICT, checked
from corridor.train.config import Config
from corridor.train.loop import train

TRAINED = [number for number in FIGURES if number != 1]


@dataclass(frozen=True)
class Inner:
    value: float
    name: str | None = None


@dataclass(frozen=True)
class Outer:
    count: int
    parts: list[Inner]
    by_name: dict[str, list[float]]

    __pydantic_config__ = STRICT


GOOD = {"count": 1, "parts": [{"value": 2}], "by_name": {"a": [1.0, float("inf")]}}


def test_matching_values_are_built_and_whole_numbers_become_floats():
    made = checked(Outer, GOOD)
    assert made == Outer(1, [Inner(2.0)], {"a": [1.0, float("inf")]})
    assert type(made.parts[0].value) is float


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 1.5}, "count: input should be a valid integer"),
        ({"count": True}, "count: input should be a valid integer, got True"),
        ({"parts": {}}, "parts: input should be a valid array"),
        ({"parts": [{"value": "2"}]}, r"parts\.0\.value: input should be a valid number, got '2'"),
        ({"parts": [{}]}, r"parts\.0\.value: field required"),
        ({"parts": [{"value": 1, "more": 2}]}, r"parts\.0\.more: unexpected keyword"),
        ({"parts": [{"value": 1, "name": 2}]}, r"parts\.0\.name: input should be a valid string"),
        ({"by_name": None}, "by_name: input should be an object, got None"),
        ({"by_name": {"a": [None]}}, r"by_name\.a\.0: input should be a valid number"),
        ({"more": 1}, "more: unexpected keyword"),
    ],
)
def test_other_values_are_one_line_that_names_the_first(change: dict, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        checked(Outer, GOOD | change)
    assert "\n" not in str(caught.value)


def test_a_reader_names_the_file_and_the_repair():
    for error in (KeyError("loss"), TypeError("no"), ValueError("bad")):
        with (
            pytest.raises(ValueError, match=r"a\.json cannot be read: .*; do this"),
            reading(Path("a.json"), "do this"),
        ):
            raise error


def first(values: dict[str, Any]) -> dict[str, Any]:
    return next(iter(next(iter(values["groups"].values()))["settings"].values()))


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "groups is a list": lambda v: v.update(groups=[]),
    "no groups": lambda v: v.update(groups={}),
    "a group without settings": lambda v: next(iter(v["groups"].values())).pop("settings"),
    "an unknown config field": lambda v: first(v)["config"].update(speed=1),
    "a config out of range": lambda v: first(v)["config"].update(batch_size=0),
    "a config that is a number": lambda v: first(v).update(config=3),
    "no curves": lambda v: first(v)["curves"].clear(),
    "a loss that is text": lambda v: first(v)["curves"][0].update(loss=["a"]),
    "a shorter loss": lambda v: first(v)["curves"][0]["loss"].pop(),
    "no final loss": lambda v: first(v)["curves"][0].pop("final_loss"),
    "more evaluations": lambda v: first(v)["curves"][0]["test_steps"].append(9),
    "a null target": lambda v: v.update(target=None),
    "another version": lambda v: v.update(version=99),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_are_one_line(damage: str, tmp_path: Path):
    values = json.loads((KEPT / "laptop" / "fig05.json").read_text())
    DAMAGE[damage](values)
    (tmp_path / "data.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="make it again with: corridor figure 5") as caught:
        figure(5).describe(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1', "\x00"])
def test_results_that_are_not_a_json_object_are_one_line(text: str, tmp_path: Path):
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(ValueError, match="corridor figure 5") as caught:
        figure(5).load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", TRAINED)
def test_missing_and_other_versions_name_the_command(number: int, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=f"make it with: corridor figure {number}"):
        figure(number).draw(tmp_path)
    (tmp_path / "data.json").write_text('{"version": 99}')
    with pytest.raises(ValueError, match=f"version 99 .* again with: corridor figure {number}"):
        figure(number).load(tmp_path)


def test_laptop_results_are_kept_for_every_trained_figure():
    kept = sorted(p.name for p in (KEPT / "laptop").iterdir())
    assert kept == [f"{FIGURES[number].name}.json" for number in TRAINED]
    assert sum(p.stat().st_size for p in KEPT.rglob("*.json")) < 4e6


def test_keeping_and_unpacking_changes_nothing(tmp_path: Path):
    unpack(KEPT / "laptop", tmp_path / "out")
    for file in keep(tmp_path / "out", tmp_path / "kept"):
        assert json.loads(file.read_text()) == json.loads((KEPT / "laptop" / file.name).read_text())


@pytest.mark.parametrize("name", ["fig99.json", "figure.json"])
def test_results_of_an_unknown_figure_are_one_line(name: str, tmp_path: Path):
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=f"{name} must belong to a known figure"):
        unpack(tmp_path, tmp_path / "out")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(Config(model="mlp", width=4, steps=3), folder, progress=False)
    return folder


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"loss"', b'"lost"'), (b'"effective_lr"', b'"rate"'), (b"}\n", b"\n"), (b'"step"', b'"s"'),
     (b'"effective_lr": 1.0', b'"effective_lr": "one"')],
)  # fmt: skip
def test_damaged_metrics_are_one_line(run: Path, old: bytes, new: bytes):
    file = run / "metrics.jsonl"
    before = file.read_bytes()
    assert old in before
    try:
        file.write_bytes(before.replace(old, new))
        with pytest.raises(ValueError, match=r"metrics\.jsonl"):
            read_curve(run, 1, 0.1)
    finally:
        file.write_bytes(before)

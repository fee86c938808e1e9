"""The records of runs: one JSON line per run in one file, and what counts as the same run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Key(NamedTuple):
    """The name of a run.

    Attributes:
        half: "development" or "held_out".
        problem: name of the problem.
        entrant: name of the entrant.
        rate: rate; None if the entrant has no rates.
        seed: seed of weights, batches and all else that is random.
        scale: factor on the problem's number of steps.
    """

    half: str
    problem: str
    entrant: str
    rate: float | None
    seed: int
    scale: int = 1


def key_of(record: dict[str, Any]) -> Key:
    """Return the key of a record."""
    return Key(*(record[name] for name in Key._fields))


def source(key: Key) -> str:
    """Return a fingerprint of the files that define the run's problem and entrant."""
    files = (HERE / key.half / f"{key.problem}.py", HERE / "entrants" / f"{key.entrant}.py")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()[:12]


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, the last one of each run. A missing file has none.

    An unfinished last line is dropped.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    found = [json.loads(line) for line in lines if line]
    return list({key_of(record): record for record in found}.values())


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a record to a file and see it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, allow_nan=False) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def mend(path: Path) -> None:
    """Remove an unfinished last line, which an interrupted runner leaves."""
    if path.exists():
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            path.write_bytes(whole)


def stale(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records whose problem or entrant has another file by now."""
    return [record for record in records if record.get("source") != source(key_of(record))]

"""Send the numbers of a probe to a dict, a jsonl file, TensorBoard or any callable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Values = Mapping[str, float]
Sink = Callable[[Values], object]


def as_sinks(given: Any) -> list[Sink]:
    """Return a list of functions, each of which takes the values of one step by name.

    Args:
        given: None; a dict, which gets one list of values per name; the path of a ``.jsonl`` file,
            which gets one line per step; a TensorBoard writer (any object with ``add_scalar``); a
            callable that takes the values; or a list of these. The values include "step".

    Raises:
        ValueError: it has another form.

    Example:
        >>> history = {}
        >>> as_sinks(history)[0]({"step": 0, "rho": 0.25})
        >>> history
        {'step': [0], 'rho': [0.25]}
    """
    if given is None:
        return []
    if isinstance(given, list | tuple):
        return [sink for one in given for sink in as_sinks(one)]
    if isinstance(given, dict):
        return [lambda values: _append(given, values)]
    if isinstance(given, str | Path):
        if Path(given).suffix != ".jsonl":
            raise ValueError(f"sink must be the path of a .jsonl file, got {given}; rename it")
        return [lambda values: _write_line(Path(given), values)]
    if hasattr(given, "add_scalar"):
        return [lambda values: _add_scalars(given, values)]
    if callable(given):
        return [given]
    raise ValueError(
        "sink must be a dict, a .jsonl path, a TensorBoard writer or a callable, "
        f"got {type(given).__name__}; give one of these or a list"
    )


def _append(history: dict[str, list[float]], values: Values) -> None:
    for name, value in values.items():
        history.setdefault(name, []).append(value)


def _write_line(path: Path, values: Values) -> None:
    """Append one line of JSON. A number that is not finite becomes a string, as in run folders."""
    plain = {k: v if math.isfinite(v) else str(v) for k, v in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def _add_scalars(writer: Any, values: Values) -> None:
    for name, value in values.items():
        if name != "step":
            writer.add_scalar(f"geometry/{name}", value, int(values["step"]))

"""Checkpoints: written whole or not at all, read without running code."""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from corridor import _reduce
from corridor.train.files import atomic

FOLDER = "checkpoints"


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        step: Optimizer steps made; the metrics of a resumed run are cut after it.
        epoch: Epoch of the next batch, from 0.
        batch: Index of the next batch in that epoch.
        images: Training images seen.
        seconds: Training time.
        skips_in_row: Skipped steps since the last one that was not.
        best_accuracy: Best test accuracy so far; None before the first evaluation.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    images: int = 0
    seconds: float = 0.0
    skips_in_row: int = 0
    best_accuracy: float | None = None


def save(out: Path, position: Position, states: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint and remove all but the newest.

    Args:
        out: The run folder.
        position: How far the run has come.
        states: State dicts of what is trained, by name.
        keep: How many checkpoints to leave.
    """
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{position.step:09d}.pt"
    content = {"position": asdict(position), "states": states, "random": _random_state()}
    with atomic(path) as file:
        torch.save(content, file)
    paths = _newest_first(out)
    ahead = paths.index(path)  # damaged ones that a resumed run has passed over
    for old in paths[:ahead] + paths[ahead + keep :]:
        old.unlink(missing_ok=True)
    for left in folder.glob(".*.tmp"):  # of a process killed while writing
        left.unlink(missing_ok=True)
    return path


def load(out: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None if there is none.

    A damaged one is passed over with a warning. The random state is left to the caller, who sets
    it with ``restore_random`` when nothing draws from it any more but the training.

    Raises:
        ValueError: If there are checkpoints and all are damaged.
    """
    paths = _newest_first(out)
    for path in paths:
        try:
            return read(path)
        except ValueError as error:
            warnings.warn(f"{error}; taking the one before", stacklevel=2)
    if paths:
        raise ValueError(f"all checkpoints in {out / FOLDER} are damaged; give a new folder")
    return None


def read(path: Path) -> dict[str, Any]:
    """One checkpoint: its position, states and random state.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        position = Position(**content["position"])
        return {"position": position, **{key: content[key] for key in ("states", "random")}}
    except Exception as error:  # a torn file raises whatever its torn part suggests
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{path} is damaged ({reason})") from error


def paths(out: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    return _newest_first(out)[::-1]


def restore_random(states: dict[str, Any]) -> None:
    """Set torch's random number generators to a checkpoint's ``random`` entry."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def whole(value: Any) -> Any:
    """The same states with sharded tensors gathered, on every rank."""
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return _reduce.whole(value) if isinstance(value, torch.Tensor) else value


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _newest_first(out: Path) -> list[Path]:
    return sorted((out / FOLDER).glob("step-*.pt"), reverse=True)

"""Train one config with `train`, or many with `sweep`; a `Task` has data of your own."""

from importlib import import_module
from typing import TYPE_CHECKING

from corridor.train.config import Config
from corridor.train.folder.record import RunRecord, Summary, read_run

if TYPE_CHECKING:
    from corridor.train import sweep
    from corridor.train.loop import train
    from corridor.train.task import Task

__all__ = ["Config", "RunRecord", "Summary", "Task", "read_run", "sweep", "train"]


def __getattr__(name: str) -> object:
    """Import names that need torch at their first use."""
    if name == "train_batched":
        raise ImportError("train_batched was removed in 0.2.0; use corridor.train.sweep.sweep")
    homes = {"train": "loop", "Task": "task", "sweep": "sweep"}
    if name in homes:
        module = import_module(f"corridor.train.{homes[name]}")
        return module if name == "sweep" else getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

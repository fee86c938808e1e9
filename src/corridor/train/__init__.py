"""Train one config or many; a run leaves a folder.

`corridor.train.loop.train` trains one config, `corridor.train.sweep.sweep` many. The names here
import without torch.
"""

from corridor.train.config import Config
from corridor.train.folder.record import RunRecord, Summary, read_run

__all__ = ["Config", "RunRecord", "Summary", "read_run"]


def __getattr__(name: str) -> None:
    if name == "train_batched":
        raise ImportError(
            "corridor.train.train_batched was removed in 0.2.0; use corridor.train.sweep.sweep"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Training: a frozen config in, a run folder out.

What needs no torch is here; ``corridor.train.loop.train`` trains one config and
``corridor.train.sweep.sweep`` many, ``train_batched`` many small ones as one program.
"""

from typing import TYPE_CHECKING, Any

from corridor.train.config import Config
from corridor.train.folder.record import RunRecord, Summary, read_run

if TYPE_CHECKING:
    from corridor.train.sweep.batched import train_batched

__all__ = ["Config", "RunRecord", "Summary", "read_run", "train_batched"]


def __getattr__(name: str) -> Any:
    if name == "train_batched":  # brings the data sets' libraries, which the rest can spare
        from corridor.train.sweep.batched import train_batched

        return train_batched
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

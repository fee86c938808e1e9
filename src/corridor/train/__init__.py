"""Training: a frozen config in, a run folder out.

What needs no torch is here; ``corridor.train.loop.train`` trains one config and
``corridor.train.sweep.sweep`` many.
"""

from corridor.train.config import Config
from corridor.train.record import RunRecord, Summary, read_run

__all__ = ["Config", "RunRecord", "Summary", "read_run"]

"""Train many configs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from corridor.train.sweep.runs import Run, Workers, sweep

__all__ = ["Run", "Workers", "sweep"]


class _Callable(ModuleType):
    """Call the function `sweep`, because its name in ``corridor.train`` is that of this package."""

    def __call__(
        self,
        runs: Sequence[Run],
        out: str | Path,
        *,
        processes: int | Workers | None = None,
        progress: bool = True,
    ) -> list[Path]:
        return sweep(runs, out, processes=processes, progress=progress)


sys.modules[__name__].__class__ = _Callable

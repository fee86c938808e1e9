"""Train many configs."""

import inspect
import sys
from types import ModuleType

from corridor.train.sweep.runs import Run, Workers, sweep

__all__ = ["Run", "Workers", "sweep"]


class _Callable(ModuleType):
    """Call the function `sweep`: package and function have one name in ``corridor.train``."""

    __call__ = staticmethod(sweep)
    __signature__ = inspect.signature(sweep)


sys.modules[__name__].__class__ = _Callable

"""Train many configs."""

from corridor.train.sweep.runs import Run, sweep

__all__ = ["Run", "sweep"]

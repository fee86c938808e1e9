"""Train many configs."""

from corridor.train.sweep.runs import Run, Workers, sweep

__all__ = ["Run", "Workers", "sweep"]

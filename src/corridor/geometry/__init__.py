"""Measure how close a loss is to a corridor, at a point, over a data set and along a run."""

from corridor.geometry.dataset import DatasetMeasures, measure_dataset
from corridor.geometry.estimates import rho_parallel_from_logs, secant
from corridor.geometry.hvp import Engine, Jet, jet
from corridor.geometry.measures import Measures, SecantMeasures
from corridor.geometry.point import measure
from corridor.geometry.probe import Probe
from corridor.geometry.sharpness import Sharpness, sharpness

__all__ = ["DatasetMeasures", "Engine", "Jet", "Measures", "Probe", "SecantMeasures", "Sharpness"]
__all__ += ["jet", "measure", "measure_dataset", "rho_parallel_from_logs", "secant", "sharpness"]

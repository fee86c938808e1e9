"""Numbers about a loss at a point: how close its landscape is to a corridor."""

from corridor.geometry.dataset import DatasetMeasures, measure_dataset
from corridor.geometry.hvp import Engine, Jet, jet
from corridor.geometry.measure import measure
from corridor.geometry.measures import Measures, SecantMeasures
from corridor.geometry.sharpness import Sharpness, sharpness

__all__ = [
    "DatasetMeasures",
    "Engine",
    "Jet",
    "Measures",
    "SecantMeasures",
    "Sharpness",
    "jet",
    "measure",
    "measure_dataset",
    "sharpness",
]

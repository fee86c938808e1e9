"""Continuous and discrete paths of the same loss, all of them a `Trajectory`."""

from corridor.flows.discrete import (
    clr_descent,
    gradient_descent,
    heavy_ball,
    mean_epoch,
    mean_loss,
    runge_kutta,
    stochastic_descent,
)
from corridor.flows.drift import Drift, drift
from corridor.flows.integrate import gradient_flow, modified_flow
from corridor.flows.methods import TABLES, Table
from corridor.flows.trajectory import Event, Trajectory

__all__ = [
    "TABLES",
    "Drift",
    "Event",
    "Table",
    "Trajectory",
    "clr_descent",
    "drift",
    "gradient_descent",
    "gradient_flow",
    "heavy_ball",
    "mean_epoch",
    "mean_loss",
    "modified_flow",
    "runge_kutta",
    "stochastic_descent",
]

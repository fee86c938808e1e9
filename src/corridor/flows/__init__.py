"""Follow continuous and discrete paths of a loss; each one is a `Trajectory`."""

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
from corridor.flows.integrate import fixed_step_flow, gradient_flow, modified_flow
from corridor.flows.methods import TABLES, Table
from corridor.flows.space import network_loss
from corridor.flows.trajectory import Event, Trajectory

__all__ = ["Drift", "Event", "Trajectory", "drift", "fixed_step_flow", "gradient_flow"]
__all__ += ["TABLES", "Table", "clr_descent", "gradient_descent", "heavy_ball", "runge_kutta"]
__all__ += ["mean_epoch", "mean_loss", "modified_flow", "network_loss", "stochastic_descent"]

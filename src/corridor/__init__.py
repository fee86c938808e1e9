"""corridor: step sizes without tuning, from the corridor geometry of the loss surface.

>>> import torch, corridor
>>> model = torch.nn.Linear(2, 1)
>>> opt = corridor.CLR(model.parameters())  # no learning rate to choose
>>> loss = (model(torch.ones(4, 2)) - 1.0).square().mean()
>>> loss.backward()
>>> _ = opt.step(loss=loss)
"""

from corridor import flows, geometry, optim, surfaces, theory
from corridor.geometry import Measures, Probe, measure, measure_dataset
from corridor.optim import CLR, CLRAdam
from corridor.surfaces import prove

__version__ = "0.1.0"

__all__ = [
    "CLR",
    "CLRAdam",
    "Measures",
    "Probe",
    "flows",
    "geometry",
    "measure",
    "measure_dataset",
    "optim",
    "prove",
    "surfaces",
    "theory",
]

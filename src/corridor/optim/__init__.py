"""Define optimizers whose step size follows from the loss."""

from corridor.optim.clr import CLR, CLRAdam
from corridor.optim.family import DAL, NGN, HalfPolyak, MoMo, MoMoAdam, Polyak
from corridor.optim.sps import AdaSPS, DecSPS, SPSMax, SPSSafe

__all__ = [
    "CLR",
    "DAL",
    "NGN",
    "AdaSPS",
    "CLRAdam",
    "DecSPS",
    "HalfPolyak",
    "MoMo",
    "MoMoAdam",
    "Polyak",
    "SPSMax",
    "SPSSafe",
]

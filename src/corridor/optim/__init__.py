"""Loss in, step out: optimizers whose step size follows from the loss."""

from corridor.optim.clr import CLR
from corridor.optim.clr_adam import CLRAdam
from corridor.optim.dal import DAL
from corridor.optim.family import NGN, AdaSPS, DecSPS, HalfPolyak, Polyak, SPSMax, SPSSafe
from corridor.optim.momo import MoMo, MoMoAdam

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

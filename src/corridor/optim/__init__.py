"""Loss in, step out: optimizers whose step size follows from the loss."""

from corridor.optim.clr import CLR

__all__ = ["CLR"]

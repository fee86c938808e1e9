"""corridor: step sizes without tuning, from the corridor geometry of the loss surface."""

__version__ = "0.1.0"

"""Numbers about a loss at a point: how close its landscape is to a corridor."""

from corridor.geometry.hvp import Engine, Jet, jet

__all__ = ["Engine", "Jet", "jet"]

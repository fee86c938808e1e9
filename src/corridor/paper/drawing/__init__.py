"""Style and panels of the figures."""

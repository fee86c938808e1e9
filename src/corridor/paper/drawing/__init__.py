"""How the figures of the paper look."""

"""Draw the panels of the figures in one style."""

"""The practice benchmark: validation loss after a fixed number of steps, with nothing tuned."""

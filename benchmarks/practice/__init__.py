"""The practice benchmark: validation loss after a fixed number of steps, nothing tuned but the yardstick."""

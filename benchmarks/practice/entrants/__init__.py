"""The optimizers that take part, one file each."""

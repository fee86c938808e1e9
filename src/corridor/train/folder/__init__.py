"""Write and read the folder that a run leaves."""

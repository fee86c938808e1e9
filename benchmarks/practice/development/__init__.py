"""The problems on which constants are chosen."""

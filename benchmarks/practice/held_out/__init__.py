"""The problems on which nothing is chosen."""

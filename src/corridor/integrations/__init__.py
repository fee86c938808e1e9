"""Corridor's probe in other people's trainers: a file each, the trainer imported inside."""

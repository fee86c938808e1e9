"""What is said where a trainer's library is missing."""

from __future__ import annotations


def missing(name: str) -> ValueError:
    """One line that names the extra."""
    return ValueError(f"this callback needs {name}; pip install 'corridor[trainers]'")

"""Libraries that only drawing needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed(name: str) -> Iterator[None]:
    """Around an import: one line that names the extra where the library is missing.

    Raises:
        ModuleNotFoundError: it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"figures and report need {name}; pip install 'corridor[paper]'", name=name
        ) from error

"""Describe a failure in one line: a missing library with its extra, or a caught error."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def required(library: str, *, extra: str) -> Iterator[None]:
    """Turn a failed import inside the block into one line that names what to install."""
    try:
        yield
    except ImportError as error:
        # An installed library that fails to import has another fault: keep its own words as well.
        broken = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
        message = f'{library} is required here; pip install "corridor[{extra}]"{broken}'
        raise ImportError(message, name=library) from error


def reason(error: BaseException) -> str:
    """Return the class and the message of an error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

"""Optional libraries: one helper that names the extra to install."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def required(library: str, *, extra: str) -> Iterator[None]:
    """Turn a failed import inside the block into one line that says what to install.

    Example:
        >>> with required("nothing", extra="lab"):
        ...     import nothing
        Traceback (most recent call last):
        ImportError: nothing is required here; pip install "corridor[lab]"
    """
    try:
        yield
    except ImportError as error:
        # An installed library that fails to import has another fault: keep its own words as well.
        broken = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
        message = f'{library} is required here; pip install "corridor[{extra}]"{broken}'
        raise ImportError(message, name=library) from error

"""Files that are whole or absent, and JSON that carries infinities."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: there, nobody is kept out
    fcntl = None

# So long may what a killed process has forked keep a folder locked, in seconds.
HELD_SECONDS = 5.0

_WORDS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing a folder; the lock goes with the process, however it ends.

    Processes that it forked, such as those that decode images, hold it until they have ended too.

    Raises:
        OSError: Another process holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(
                f"another process is writing to {folder}; wait for it, or give a new folder"
            ) from None
        yield
    finally:
        os.close(handle)


def wait_until_free(folder: Path, seconds: float) -> bool:
    """Wait, not longer than this, until no other process writes a folder; it may be absent.

    Returns:
        Whether none does.
    """
    end = monotonic() + seconds
    while folder.is_dir():
        try:
            with locked(folder):
                return True
        except OSError:
            if monotonic() > end:
                return False
            sleep(0.05)
    return True


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` in one move once it is on the disk.

    Args:
        path: What to replace; the temporary file lies in the same folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_tensors(path: Path, content: Any) -> None:
    """Write what ``torch.save`` takes, atomically.

    Raises:
        OSError: If it cannot be written; torch itself hides that behind another error.
    """
    import torch

    try:
        with atomic(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        found = disk_trouble(error)
        if found is None:
            raise
        raise OSError(f"cannot write {path} ({found.strerror})") from error


def disk_trouble(error: BaseException) -> OSError | None:
    """The system's own error behind another one, if it is there."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found
        found = found.__cause__ or found.__context__
    return None


def dumps(value: Any, *, indent: int | None = None) -> str:
    """JSON text; numbers that JSON lacks are the strings ``"inf"``, ``"-inf"`` and ``"nan"``.

    >>> dumps({"loss": float("inf")})
    '{"loss": "inf"}'
    """
    try:
        return json.dumps(value, allow_nan=False, indent=indent)
    except ValueError:
        return json.dumps(_spelled(value), allow_nan=False, indent=indent)


def numbers(values: dict[str, Any]) -> dict[str, Any]:
    """The same mapping with the strings that stand for numbers turned into floats.

    >>> numbers({"loss": "inf", "step": 3})
    {'loss': inf, 'step': 3}
    """
    return {
        key: _WORDS.get(value, value) if isinstance(value, str) else value
        for key, value in values.items()
    }


def revive(value: Any) -> Any:
    """The same value with strings that stand for numbers turned into floats, however nested.

    >>> revive({"losses": [1.0, "inf"]})
    {'losses': [1.0, inf]}
    """
    if isinstance(value, dict):
        return {key: revive(item) for key, item in value.items()}
    if isinstance(value, list):
        return [revive(item) for item in value]
    return _WORDS.get(value, value) if isinstance(value, str) else value


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, atomically."""
    with atomic(path) as file:
        file.write((dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object, got {type(value).__name__}")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; an unfinished last line is dropped.

    Raises:
        ValueError: If another line is not a JSON object.
    """
    *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
    del rest  # what follows the last newline was never finished
    try:
        return [numbers(json.loads(line)) for line in lines]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} has a line that is not a JSON object ({error})") from error


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(item) for item in value]
    return value

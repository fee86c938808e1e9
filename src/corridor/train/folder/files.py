"""Lock folders, and write complete files of tensors and of JSON with infinite numbers."""

import errno
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from corridor._atomic import atomic

LOCK = ".lock"
# Seconds that a process which was just killed may need to end and to release its lock.
HELD_SECONDS = 5.0
# Errors of file systems without locks; NFS without a lock service raises ENOLCK.
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


@contextmanager
def locked(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing a folder while the block runs, or raise OSError.

    The system releases the lock when the process ends, also after SIGKILL. On NFS it holds between
    machines, too. A file system without locks gets a warning and no lock.
    """
    # In place of a missing lock, filelock would make a file that outlives a killed process.
    lock = FileLock(folder / LOCK, timeout=wait, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise OSError(
            f"another process is writing to {folder}; wait for it, or give a new folder"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"the file system of {folder} has no locks; start one process per folder", stacklevel=3
        )
    try:
        yield
    finally:
        lock.release()


def wait_until_free(folder: Path, seconds: float) -> bool:
    """Return True as soon as no other process writes a folder, or False after `seconds`."""
    try:
        with locked(folder, wait=seconds) if folder.is_dir() else nullcontext():
            return True
    except OSError:
        return False


def made(folder: Path) -> None:
    """Make a folder unless it exists; raise OSError if it cannot be written."""
    with writing(f"to {folder}", "; give a folder that can be written"):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / ".writable"):
            pass
        (folder / ".writable").unlink()


@contextmanager
def writing(what: str | Path, advice: str = "") -> Iterator[None]:
    """Raise an OSError that names what cannot be written if the disk fails in the block."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch raises a RuntimeError for a full disk
        found: BaseException | None = error
        while found is not None and not (isinstance(found, OSError) and found.strerror):
            found = found.__cause__ or found.__context__
        if found is None:
            raise
        raise OSError(f"cannot write {what} ({found.strerror}){advice}") from error


def save_tensors(path: Path, content: Any) -> None:
    """Write `content` with ``torch.save``, atomically; raise OSError if the disk refuses."""
    import torch

    with writing(path), atomic(path) as file:
        torch.save(content, file)


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Return JSON text; numbers that JSON lacks become ``"inf"``, ``"-inf"`` and ``"nan"``."""
    try:
        return json.dumps(value, allow_nan=False, indent=indent)
    except ValueError:  # a number is not finite, which Python writes as JavaScript does
        strings = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}
        plain = json.loads(json.dumps(value), parse_constant=strings.get)
        return json.dumps(plain, indent=indent)


def numbers(value: Any) -> Any:
    """Return a value read from JSON with the strings of `dumps` turned back into floats."""
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, atomically."""
    with atomic(path) as file:
        file.write((dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise ValueError for any other content."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file without an unfinished last line; none if absent."""
    finished = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    try:
        lines = [numbers(json.loads(line)) for line in finished]
        if all(isinstance(line, dict) for line in lines):
            return lines
        reason = "of another kind"
    except ValueError as error:
        reason = error
    raise ValueError(f"{path} has a line that is not a JSON object ({reason})")

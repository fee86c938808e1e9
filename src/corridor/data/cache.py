"""Decoded data sets on disk, so that a set is decoded once a machine and not once a run."""

import contextlib
import hashlib
import json
import logging
import os
import sys
import uuid
import zlib
from pathlib import Path
from typing import Any

import PIL
import torch

VERSION = 1  # of what the files hold; a new one leaves old files unread

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """CORRIDOR_CACHE, or `corridor` in the user's cache folder of the platform."""
    if chosen := os.environ.get("CORRIDOR_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "corridor"
    variable, default = "XDG_CACHE_HOME", Path.home() / ".cache"
    if sys.platform == "win32":
        variable, default = "LOCALAPPDATA", Path.home() / "AppData" / "Local"
    return Path(os.environ.get(variable) or default) / "corridor"


def cache_file(name: str, stamp: object, image_size: int | None) -> Path:
    """Where the decoded form of a data set lies: named by a hash of what it was made from.

    Args:
        name: of the data set; its letters and digits begin the file name.
        stamp: the source's files and their state, serialisable as JSON.
        image_size: the size asked for, None for that of the images.
    """
    made_from = json.dumps([VERSION, PIL.__version__, name, stamp, image_size])
    digest = hashlib.blake2b(made_from.encode(), digest_size=12).hexdigest()
    readable = "".join(c if c.isalnum() else "-" for c in name)[:40].strip("-")
    return cache_folder() / f"{readable}-{digest}.pt"


def save(path: Path, content: dict[str, Any]) -> None:
    """Write atomically. A cache that cannot be written costs time, not the run: it is logged."""
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            torch.save(content | {"checksum": _checksum(content)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning("the decoded images were not kept in %s: %s", path.parent, reason)


def load(path: Path) -> dict[str, Any] | None:
    """What `save` wrote, or None if the file is missing or damaged in any way.

    Tensors are mapped from the file, so that processes on one machine share the memory.
    """
    if not path.is_file():
        return None
    try:
        content = torch.load(path, weights_only=True, mmap=True)
        checksum = content.pop("checksum")
        return content if checksum == _checksum(content) else None
    except Exception:  # whatever the damage did to the file, the cure is to make it again
        return None


def _checksum(content: dict[str, Any]) -> int:
    # torch.load does not notice flipped bits inside a tensor.
    total = 0
    for key in sorted(content):
        value = content[key]
        if isinstance(value, torch.Tensor):
            total = zlib.crc32(value.contiguous().numpy().data, total)
        else:
            total = zlib.crc32(json.dumps([key, value]).encode(), total)
    return total

"""Name cached copies after the files that they are made from."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Return the folder of decoded images and Arrow copies: CORRIDOR_CACHE, or the user's cache."""
    user = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache")
    return Path(os.environ.get("CORRIDOR_CACHE") or Path(user) / "corridor").expanduser()


def digest(files: Iterable[str | Path], *options: Any) -> str:
    """Return a hash of options and of files: their paths, sizes, inodes and times of change."""
    made_from = [repr(options)]
    for path in files:
        now = os.stat(path)
        state = now.st_size, now.st_ino, now.st_mtime_ns, now.st_ctime_ns
        made_from.append(f"{os.path.abspath(path)}{state}")
    return hashlib.blake2b("\n".join(made_from).encode(), digest_size=12).hexdigest()

"""Run folders kept at a URL, for workers that share no file system: any that fsspec can open."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import Any

from corridor.train.checkpoint import FOLDER
from corridor.train.files import atomic
from corridor.train.record import METRICS, SUMMARY

# A run that is being trained is copied not more often than this, in seconds.
PUSH_SECONDS = 60.0
PART = ".part"


def check(url: str) -> None:
    """Raise one line of OSError unless files can be written under a URL.

    Raises:
        OSError: The file system is unknown, its library missing, or it cannot be written.
    """
    try:
        fs, root = _opened(url)
        fs.makedirs(root, exist_ok=True)
        probe = f"{root}/.writable"
        fs.pipe_file(probe, b"")
        fs.rm_file(probe)
    except Exception as error:  # every file system has errors of its own
        reason = " ".join(str(error).split())
        raise OSError(
            f"cannot write to {url} ({reason}); give a URL that fsspec can write, "
            "such as file:///folder or s3://bucket/folder"
        ) from error


def fetch(url: str, folder: Path) -> None:
    """Copy all files of a stored run folder into a folder; where none is stored, do nothing."""
    fs, root = _opened(url)
    for path in _files(fs, root):
        target = folder / PurePosixPath(path).relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(target) as file:
            fs.get_file(path, file.name)


class Kept:
    """A run folder on this machine and its copy at a URL.

    Args:
        folder: The run folder.
        url: Where it is kept.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._fs, self._root = _opened(url)
        self._pushed = monotonic()

    def push_now_and_then(self) -> None:
        """Copy what is new, if the last time is long ago."""
        if monotonic() - self._pushed > PUSH_SECONDS:
            self.push()

    def push(self) -> None:
        """Copy what is new, so that whatever is cut off, no checkpoint is ahead of its metrics."""
        files = [f for f in sorted(self.folder.rglob("*")) if f.is_file() and not _temporary(f)]
        saved = [f for f in files if f.relative_to(self.folder).parts[0] == FOLDER]
        plain = [f for f in files if f not in saved and f.name not in (METRICS, SUMMARY)]
        saved.sort(key=lambda f: f.name.startswith("."))  # what makes a checkpoint whole comes last
        for file in [*plain, self.folder / METRICS, *saved, self.folder / SUMMARY]:
            with suppress(FileNotFoundError):  # a checkpoint too old to keep, a summary to come
                self._put(file, changes=file not in saved)
        self._forget_old({f.relative_to(self.folder).as_posix() for f in saved})
        self._pushed = monotonic()

    def _put(self, file: Path, *, changes: bool) -> None:
        target = f"{self._root}/{file.relative_to(self.folder).as_posix()}"
        if not changes and self._fs.exists(target):
            return
        if not file.exists():
            raise FileNotFoundError(file)
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._fs.put_file(str(file), f"{target}{PART}")
        self._fs.mv(f"{target}{PART}", target)

    def _forget_old(self, kept: set[str]) -> None:
        for path in _files(self._fs, f"{self._root}/{FOLDER}"):
            if PurePosixPath(path).relative_to(self._root).as_posix() not in kept:
                self._fs.rm_file(path)


@contextmanager
def borrowed(url: str) -> Iterator[Kept]:
    """A stored run folder on this machine's own disk for a while, stored again at the end."""
    with tempfile.TemporaryDirectory(prefix="corridor-") as folder:
        fetch(url, Path(folder))
        kept = Kept(Path(folder), url)
        try:
            yield kept
        finally:
            kept.push()


def _opened(url: str) -> tuple[Any, str]:
    import fsspec  # comes with the extra ``lab``, too

    fs, root = fsspec.core.url_to_fs(url)
    return fs, root.rstrip("/")


def _temporary(file: Path) -> bool:
    return file.name.startswith(".") and file.name.endswith(".tmp")


def _files(fs: Any, root: str) -> list[str]:
    """Files under a path, without half-copied ones; none if there is no such path."""
    fs.invalidate_cache()
    found = fs.find(root) if fs.exists(root) else []
    return [path for path in found if not path.endswith(PART)]

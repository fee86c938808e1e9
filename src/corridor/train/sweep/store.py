"""Run folders kept at a URL, for workers that share no file system: any that fsspec can open."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import Any

from corridor.train.config import Config, differences
from corridor.train.folder.checkpoint import FOLDER
from corridor.train.folder.files import atomic
from corridor.train.folder.record import METRICS, SUMMARY, check_same, read_config

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
        raise OSError(
            f"cannot write to {url} ({_line(error)}); give a URL that fsspec can write, "
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


def replace(folder: Path, url: str, config: Config) -> None:
    """Put a stored run in the place of a run folder, unless the one there is further.

    Raises:
        ValueError: What is stored there is a run of another config.
        OSError: It cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix=".corridor-", dir=folder.parent) as place:
        fresh = Path(place) / folder.name
        try:
            fetch(url, fresh)
        except Exception as error:  # every file system has errors of its own
            raise OSError(f"cannot fetch {url} ({_line(error)})") from error
        found = read_config(fresh)
        if found is None:
            return
        names = differences(found, config)
        if names:
            raise ValueError(
                f"{url} holds a run with another config (it differs in {', '.join(names)}); "
                "give a new store"
            )
        if _newest(fresh) >= _newest(folder):
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)


class Kept:
    """A run folder on this machine and its copy at a URL.

    Args:
        folder: The run folder.
        url: Where it is kept.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self._fs, self._root = _opened(url)
        self._known = _newest(folder)
        self._pushed = monotonic()

    def push_now_and_then(self) -> None:
        """Copy what is new, if the last time is long ago."""
        if monotonic() - self._pushed > PUSH_SECONDS:
            self.push()

    def push(self) -> None:
        """Copy what is new, so that whatever is cut off, no checkpoint is ahead of its metrics.

        Raises:
            OSError: The store is further, as where a worker given up for lost comes back late.
        """
        there = (PurePosixPath(p).name for p in _files(self._fs, f"{self._root}/{FOLDER}"))
        if max(there, default="") > max(self._known, _newest(self.folder)):
            raise OSError(f"{self.url} is further than this run; another worker trains it")
        files = [f for f in sorted(self.folder.rglob("*")) if f.is_file() and not _temporary(f)]
        saved = [f for f in files if f.relative_to(self.folder).parts[0] == FOLDER]
        plain = [f for f in files if f not in saved and f.name not in (METRICS, SUMMARY)]
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
def borrowed(url: str, config: Config) -> Iterator[Kept]:
    """A stored run folder on this machine's own disk for a while, stored again at the end.

    Raises:
        ValueError: What is stored there cannot be continued with this config.
    """
    with tempfile.TemporaryDirectory(prefix="corridor-") as folder:
        fetch(url, Path(folder))
        found = read_config(Path(folder))
        if found is not None:
            check_same(url, found, config)
        kept = Kept(Path(folder), url)
        try:
            yield kept
        finally:
            kept.push()


def _opened(url: str) -> tuple[Any, str]:
    import fsspec  # comes with the extra ``lab``, too

    fs, root = fsspec.core.url_to_fs(url)
    return fs, root.rstrip("/")


def _newest(folder: Path) -> str:
    return max((path.name for path in (folder / FOLDER).glob("step-*")), default="")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _temporary(file: Path) -> bool:
    return file.name.startswith(".") and file.name.endswith(".tmp")


def _files(fs: Any, root: str) -> list[str]:
    """Files under a path, without half-copied ones; none if there is no such path."""
    fs.invalidate_cache()
    found = fs.find(root) if fs.exists(root) else []
    return [path for path in found if not path.endswith(PART)]

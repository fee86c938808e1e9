"""Checkpoints that many processes write together: folders, by torch.distributed.checkpoint.

Tensors, sharded or not, go through DCP, which brings them back on any number of processes. All
else, as options and counters, is one file of plain values. Both are written aside; what makes the
folder a checkpoint is its renaming, the last thing done, after a manifest with the size and CRC-32
of every file.

DCP's own reader unpickles its index and its byte entries, which could run code. Here the index is
read by an unpickler that knows DCP's records and nothing else, and there are no byte entries:
tensors are read with ``weights_only``.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from corridor.train.folder.files import disk_trouble, read_json, save_tensors, write_json

MANIFEST, PLAIN, INDEX = "manifest.json", "plain.pt", ".metadata"
MARK = "__tensor__"  # stands in the plain values for a tensor, with its name
READ_BYTES = 2**20

Path_ = tuple[Any, ...]
Like = Callable[[Path_, torch.Size], Tensor | None]


def aside(path: Path) -> Path:
    """Where a checkpoint is written before it is one."""
    return path.with_name(f".{path.name}.tmp")


class Writer(filesystem.FileSystemWriter):
    """Writes tensors aside; rank 0 ends by completing the checkpoint.

    Args:
        path: The folder of the checkpoint.
        plain: What rank 0 writes beside the tensors.
        completed: Called on rank 0 when the checkpoint is there.
    """

    def __init__(self, path: Path, plain: Any, completed: Callable[[], Any]) -> None:
        super().__init__(aside(path))
        self.target, self.plain, self.completed = path, plain, completed

    def storage_meta(self) -> StorageMeta:
        """Nothing: a checkpoint may be moved to another folder."""
        return StorageMeta()

    def write_data(self, plan: Any, planner: Any) -> Any:
        """This rank's files, each with its sum beside it."""
        with _plainly():
            found = super().write_data(plan, planner)
            for name in {result.storage_data.relative_path for result in found.wait()}:
                file = aside(self.target) / name
                write_json(file.with_name(f"{name}.sum"), {"sum": _sum(file)})
            return found

    def finish(self, metadata: Metadata, results: Any) -> None:
        """The index, the plain values, the manifest, and the folder's own name."""
        with _plainly():
            super().finish(metadata, results)
            self._complete()

    def _complete(self) -> None:
        folder = aside(self.target)
        save_tensors(folder / PLAIN, self.plain)
        sums = {name: _sum(folder / name) for name in (PLAIN, INDEX)}
        for file in folder.glob("*.sum"):
            sums[file.stem] = read_json(file)["sum"]
            file.unlink()
        write_json(folder / MANIFEST, sums)
        _sync(folder)
        if self.target.exists():  # damaged, or of the same step
            shutil.rmtree(self.target)
        os.replace(folder, self.target)
        _sync(self.target.parent)
        self.completed()


@contextmanager
def _plainly() -> Iterator[None]:
    """A system's error as itself: what hides it would be all that other ranks get to see."""
    try:
        yield
    except Exception as error:
        found = disk_trouble(error)
        if found is None:
            raise
        raise OSError(found.errno, found.strerror) from error


class Reader(filesystem.FileSystemReader):
    """Reads what `Writer` wrote, and runs nothing of what it reads."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index of the tensors."""
        content = (Path(self.path) / INDEX).read_bytes()
        found = cast(Metadata, _Records(io.BytesIO(content)).load())
        found.storage_meta = StorageMeta(load_id=self.load_id)
        return found


class _Records(pickle.Unpickler):
    """Knows DCP's records, shapes and dtypes; anything else in a pickle is an error."""

    MODULES: tuple[tuple[Any, tuple[str, ...]], ...] = (
        (
            metadata,
            (
                *("Metadata", "MetadataIndex", "StorageMeta", "ChunkStorageMetadata"),
                *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
            ),
        ),
        (filesystem, ("_StorageInfo",)),
        (torch, ("Size",)),
        (torch.serialization, ("_get_layout",)),
    )

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        for known, names in self.MODULES:
            if module == known.__name__ and name in names:
                return getattr(known, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in an index")


class _TensorsOnly(DefaultLoadPlanner):
    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        raise ValueError("the index names an entry that is no tensor")


def split(value: Any, tensors: dict[str, Tensor], path: Path_ = ()) -> Any:
    """The same tree with a mark in place of every tensor, which goes to `tensors` by its path."""
    if isinstance(value, Tensor):
        name = "/".join(map(str, path))
        tensors[name] = value
        return {MARK: name}
    if isinstance(value, dict):
        return {key: split(item, tensors, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(split(v, tensors, (*path, i)) for i, v in enumerate(value))
    return value


def start(tensors: dict[str, Tensor], writer: Writer, group: Any) -> Any:
    """Copy tensors and begin to write them, on all ranks of a group; what `end` waits for."""
    try:
        return async_save(tensors, storage_writer=writer, process_group=group)
    except CheckpointException as error:
        return error


def end(path: Path, future: Any) -> None:
    """Wait until a checkpoint is written; an OSError if it could not be."""
    try:
        if isinstance(future, BaseException):
            raise future
        future.result()
    except CheckpointException as error:
        causes = [failure[0] for failure in error.failures.values()]
        shutil.rmtree(aside(path), ignore_errors=True)
        found = next(filter(None, map(disk_trouble, causes)), None)
        reason = causes[0] if found is None else found.strerror
        raise OSError(
            f"cannot write the checkpoint {path} ({reason}); make room, and go on with --resume"
        ) from error


def check(folder: Path) -> None:
    """Raise a ValueError unless every file of a checkpoint is what was written."""
    try:
        sums = read_json(folder / MANIFEST)
        for name, expected in sums.items():
            if Path(name).name != name or _sum(folder / name) != expected:
                raise ValueError(f"{name} is not what was written")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is damaged ({' '.join(str(error).split())[:160]})") from error


def read(folder: Path, like: Like | None = None, *, together: bool = False) -> Any:
    """What was saved, in the shape it had.

    Args:
        folder: The checkpoint, checked.
        like: For a path in the tree and a shape, a tensor whose shards and device the one there is
            to have; by default they are whole and on the CPU.
        together: Whether all ranks of the default process group call this.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        reader = Reader(folder)
        index = reader.read_metadata().state_dict_metadata
        plain = torch.load(folder / PLAIN, map_location="cpu", weights_only=True)
        tensors: dict[str, Tensor] = {}
        found = _joined(plain, index, tensors, like)
        if tensors:
            with warnings.catch_warnings():  # one process alone is meant
                warnings.simplefilter("ignore")
                load(
                    tensors,
                    storage_reader=reader,
                    planner=_TensorsOnly(),
                    no_dist=not together,
                )
    except (Exception, CheckpointException) as error:
        raise ValueError(f"{folder} is damaged ({' '.join(str(error).split())[:160]})") from error
    return found


def _joined(
    value: Any, index: Any, tensors: dict[str, Tensor], like: Like | None, path: Path_ = ()
) -> Any:
    """The tree with an empty tensor at every mark, to be filled."""
    if isinstance(value, dict) and MARK in value:
        name = value[MARK]
        entry = index[name]
        assert isinstance(entry, TensorStorageMetadata)
        model = None if like is None else like(path, entry.size)
        dtype = entry.properties.dtype
        if model is None:
            tensors[name] = torch.empty(entry.size, dtype=dtype)
        else:
            tensors[name] = torch.zeros_like(model, dtype=dtype, requires_grad=False)
        return tensors[name]
    if isinstance(value, dict):
        return {k: _joined(v, index, tensors, like, (*path, k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(
            _joined(v, index, tensors, like, (*path, i)) for i, v in enumerate(value)
        )
    return value


def _sum(path: Path) -> list[int]:
    """Size and CRC-32 of a file."""
    size = check = 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            size, check = size + len(block), zlib.crc32(block, check)
    return [size, check]


def _sync(folder: Path) -> None:
    """Bring the names in a folder onto the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

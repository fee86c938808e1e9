"""Write and read the folder of a checkpoint with torch.distributed.checkpoint (DCP).

DCP stores the tensors, whole or sharded, and reads them on any number of processes. All other
values are in ``plain.pt``. DCP's own reader unpickles its index and its entries without a tensor,
which can run code. Here the index is read by an unpickler that accepts DCP's own records only.
"""

import io
import os
import pickle
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.state_dict_loader import load

from corridor.train.folder.files import disk_trouble, read_json, save_tensors, write_json

MANIFEST, PLAIN, INDEX = "manifest.json", "plain.pt", ".metadata"
READ_BYTES = 2**20
_RECORDS = {
    **dict.fromkeys(
        (
            *("Metadata", "MetadataIndex", "StorageMeta", "ChunkStorageMetadata"),
            *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
        ),
        metadata,
    ),
    **{"_StorageInfo": filesystem, "Size": torch, "_get_layout": torch.serialization},
}


def temporary(path: Path) -> Path:
    """Return the folder in which a checkpoint is written before it gets its name."""
    return path.with_name(f".{path.name}.tmp")


def replaced(value: Any, replace: Callable[[str, Any], Any], name: str = "") -> Any:
    """Return a tree of dicts and lists with ``replace(name, leaf)`` for each leaf.

    >>> replaced({"a": [1, 2]}, lambda name, leaf: f"{name}={leaf}")
    {'a': ['a/0=1', 'a/1=2']}
    """
    if isinstance(value, dict):
        return {k: replaced(v, replace, f"{name}/{k}".lstrip("/")) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(replaced(v, replace, f"{name}/{i}") for i, v in enumerate(value))
    return replace(name, value)


class Writer(filesystem.FileSystemWriter):
    """Write tensors to a temporary folder; rank 0 then calls `complete`."""

    def __init__(self, path: Path, complete: Callable[[], None]) -> None:
        super().__init__(temporary(path))
        self.complete = complete

    def storage_meta(self) -> StorageMeta:
        """Return an empty record, so that a checkpoint can move to another folder."""
        return StorageMeta()

    def write_data(self, plan: Any, planner: Any) -> Any:
        """Write the tensors of this rank."""
        with _disk_errors():
            return super().write_data(plan, planner)

    def finish(self, metadata: Metadata, results: Any) -> None:
        """Write the index and complete the checkpoint."""
        with _disk_errors():
            super().finish(metadata, results)
            self.complete()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Replace an error by the OSError behind it, because other ranks get the outermost only."""
    try:
        yield
    except Exception as error:
        found = disk_trouble(error)
        if found is None:
            raise
        raise OSError(found.errno, found.strerror) from error


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn DCP's error inside the block into an OSError about the checkpoint."""
    try:
        with warnings.catch_warnings():  # DCP warns when there is no process group
            warnings.simplefilter("ignore")
            yield
    except CheckpointException as error:
        causes = [failure[0] for failure in error.failures.values()]
        for cause in causes:
            if isinstance(cause, KeyboardInterrupt):  # DCP collects a second Ctrl-C, too
                raise cause from None
        shutil.rmtree(temporary(path), ignore_errors=True)
        found = next(filter(None, map(disk_trouble, causes)), None)
        reason = causes[0] if found is None else found.strerror
        raise OSError(
            f"cannot write the checkpoint {path} ({reason}); make room, and go on with --resume"
        ) from error


def complete(path: Path, plain: Any) -> None:
    """Write the plain values and the checksums of all files; then give the folder its name."""
    folder = temporary(path)
    save_tensors(folder / PLAIN, plain)
    write_json(folder / MANIFEST, {file.name: _checksum(file) for file in folder.iterdir()})
    _sync(folder)  # a name can be lost in a power failure until its folder is on the disk
    if path.exists():  # a damaged checkpoint of the same step
        shutil.rmtree(path)
    os.replace(folder, path)
    _sync(path.parent)


class _Reader(filesystem.FileSystemReader):
    """Read what `Writer` wrote, without running code."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        content = (Path(self.path) / INDEX).read_bytes()
        found = cast(Metadata, _Records(io.BytesIO(content)).load())
        found.storage_meta = StorageMeta(load_id=self.load_id)
        return found


class _Records(pickle.Unpickler):
    """Accept DCP's records, shapes and dtypes, and refuse all other classes and functions."""

    def find_class(self, module: str, name: str) -> Any:
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not dtype and (name not in _RECORDS or module != _RECORDS[name].__name__):
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in an index")
        return super().find_class(module, name)


def verify(folder: Path) -> None:
    """Raise ValueError unless a checkpoint has the files that were written, unchanged."""
    try:
        expected = read_json(folder / MANIFEST)
        # Values of another type, as in a manifest that has changed, differ from every checksum.
        found = {file.name: _checksum(file) for file in folder.iterdir() if file.name != MANIFEST}
        changed = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        if changed or not {PLAIN, INDEX} <= found.keys():
            raise ValueError(f"{', '.join(changed) or PLAIN} has changed or is missing")
    except (FileNotFoundError, ValueError) as error:
        raise damaged(folder, error) from error
    except OSError as error:
        raise OSError(f"cannot read {folder} ({error.strerror or error}); try again") from error


def read(
    folder: Path, like: Mapping[str, Tensor], *, together: bool
) -> tuple[Any, dict[str, Tensor]]:
    """Return the plain values and the tensors of a checkpoint that passed `verify`."""
    try:
        reader = _Reader(folder)
        index = reader.read_metadata().state_dict_metadata
        plain = torch.load(folder / PLAIN, map_location="cpu", weights_only=True)
        tensors = {name: _empty(name, entry, like) for name, entry in index.items()}
        with warnings.catch_warnings():  # DCP warns when there is no process group
            warnings.simplefilter("ignore")
            load(cast("dict[str, Any]", tensors), storage_reader=reader, no_dist=not together)
    except (Exception, CheckpointException) as error:
        raise damaged(folder, error) from error
    return plain, tensors


def _empty(name: str, entry: Any, like: Mapping[str, Tensor]) -> Tensor:
    """Return a tensor for an entry of the index to be read into."""
    model = like.get(name, like.get(name.rpartition("/")[0]))
    if model is None or model.shape != entry.size:
        return torch.empty(entry.size, dtype=entry.properties.dtype)
    return torch.zeros_like(model, dtype=entry.properties.dtype, requires_grad=False)


def damaged(folder: Path, error: BaseException) -> ValueError:
    """Return the error for a checkpoint that cannot be read."""
    return ValueError(f"{folder} is damaged ({' '.join(str(error).split())[:160]})")


def _checksum(path: Path) -> list[int]:
    """Return the size and the CRC-32 of a file."""
    size = check = 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            size, check = size + len(block), zlib.crc32(block, check)
    return [size, check]


def _sync(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

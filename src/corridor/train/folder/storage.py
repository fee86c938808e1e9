"""Write and read the folder of a checkpoint with torch.distributed.checkpoint (DCP)."""

import hashlib
import io
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import NoneType
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.state_dict_loader import load

from corridor.train.folder.files import read_json, save_tensors, write_json, writing

# DCP would unpickle, which can run code. `_Records` reads the index, and PLAIN holds other values.
MANIFEST, PLAIN, INDEX = "manifest.json", "plain.pt", ".metadata"
_DCP = "torch.distributed.checkpoint"
_RECORDS = {
    *(f"{_DCP}.metadata.{name}" for name in ("Metadata", "MetadataIndex", "StorageMeta")),
    *(f"{_DCP}.metadata.{name}" for name in ("ChunkStorageMetadata", "TensorStorageMetadata")),
    *(f"{_DCP}.metadata.{name}" for name in ("TensorProperties", "_MEM_FORMAT_ENCODING")),
    f"{_DCP}.filesystem._StorageInfo",
    "torch.Size",
    "torch.serialization._get_layout",
}


def temporary(path: Path) -> Path:
    """Return the folder in which a checkpoint is written before it gets its name."""
    return path.with_name(f".{path.name}.tmp")


def replaced(value: Any, replace: Callable[[str, Any], Any], name: str = "") -> Any:
    """Return a tree of dicts and lists with ``replace("a/0", leaf)`` in place of each leaf."""
    if isinstance(value, dict) and {*map(type, value)} <= {str, int}:
        return {k: replaced(v, replace, f"{name}/{k}".lstrip("/")) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(replaced(v, replace, f"{name}/{i}") for i, v in enumerate(value))
    return replace(name, value)


def loadable(name: str, value: Any) -> Any:
    """Return a value that `read` can load; raise ValueError for others, such as NumPy's scalars."""
    file = io.BytesIO()
    try:
        if not (isinstance(value, Tensor) or type(value) in (NoneType, bool, int, float, str)):
            torch.save(value, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        return value
    except Exception as error:  # objects can raise anything
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise ValueError(
            f"{name} must be a tensor or a plain Python value, got {kind}; convert it in the "
            "network's get_extra_state"
        ) from error


class Writer(filesystem.FileSystemWriter):
    """Write tensors to a temporary folder; rank 0 then adds the plain values and names it."""

    def __init__(self, path: Path, plain: Any) -> None:
        super().__init__(temporary(path))
        self.final, self.plain = path, plain

    def storage_meta(self) -> StorageMeta:
        """Return an empty record, so that a checkpoint can move to another folder."""
        return StorageMeta()

    def write_data(self, plan: Any, planner: Any) -> Any:
        """Write the tensors of this rank."""
        with _writing(self.final):
            return super().write_data(plan, planner)

    def finish(self, metadata: Metadata, results: Any) -> None:
        """Write the index, the plain values and the checksums; then give the folder its name."""
        folder = temporary(self.final)
        with _writing(self.final):
            super().finish(metadata, results)
            save_tensors(folder / PLAIN, self.plain)
            write_json(folder / MANIFEST, {file.name: _checksum(file) for file in folder.iterdir()})
            _sync(folder)  # a name can be lost in a power failure until its folder is on the disk
            if self.final.exists():  # a damaged checkpoint of the same step
                shutil.rmtree(self.final)
            os.replace(folder, self.final)
            _sync(folder.parent)


def _writing(path: Path) -> AbstractContextManager[None]:
    # Inside DCP, because a rank gets only the outermost of the exceptions of another rank.
    return writing(f"the checkpoint {path}", "; make room, and go on with --resume")


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn DCP's error inside the block into an OSError about the checkpoint."""
    try:
        with _writing(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DCP warns when there is no process group
            yield
    except CheckpointException as error:
        causes = [failure[0] for failure in error.failures.values()]
        for cause in causes:
            if isinstance(cause, KeyboardInterrupt):  # DCP collects a second Ctrl-C, too
                raise cause from None
        shutil.rmtree(temporary(path), ignore_errors=True)
        other = OSError(f"cannot write the checkpoint {path} ({causes[0]})")
        raise next((c for c in causes if isinstance(c, OSError)), other) from error


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
        if not dtype and f"{module}.{name}" not in _RECORDS:
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
    folder: Path, like: Mapping[str, Any], *, together: bool
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return all values, and the tensors by name, of a checkpoint that passed `verify`."""
    plain = _plain(folder)
    try:
        reader = _Reader(folder)
        index = reader.read_metadata().state_dict_metadata
        tensors = {name: _empty(name, entry, like) for name, entry in index.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(cast("dict[str, Any]", tensors), storage_reader=reader, no_dist=not together)
    except (Exception, CheckpointException) as error:
        raise damaged(folder, error) from error
    return replaced(plain, tensors.get), tensors


def _plain(folder: Path) -> Any:
    """Return the plain values of a checkpoint."""
    try:
        return torch.load(folder / PLAIN, map_location="cpu", weights_only=True)
    except Exception as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise damaged(folder, error) from error
        raise ValueError(
            f"{folder} must hold tensors and plain values, got {found[1]}; give a new folder"
        ) from error


def _empty(name: str, entry: Any, like: Mapping[str, Any]) -> Tensor:
    """Return a tensor for an entry of the index to be read into."""
    model = like.get(name, like.get(name.rpartition("/")[0]))
    if not isinstance(model, Tensor) or model.shape != entry.size:
        return torch.empty(entry.size, dtype=entry.properties.dtype)
    return torch.zeros_like(model, dtype=entry.properties.dtype, requires_grad=False)


def damaged(folder: Path, error: BaseException) -> ValueError:
    """Return the error for a checkpoint that cannot be read."""
    # The beginning of torch's message has terminal codes.
    reason = str(error).rpartition("WeightsUnpickler error: ")[2]
    return ValueError(f"{folder} is damaged ({' '.join(reason.split())[:160]})")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _sync(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

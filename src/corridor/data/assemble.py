"""Load a data set: decoded into memory if it fits, decoded on the fly if it does not."""

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL
import torch
from torch import Tensor

from corridor._atomic import atomic
from corridor.data.cache import cache_folder, digest
from corridor.data.decode import decode, first_line, is_gray, mean_and_std, open_image
from corridor.data.sources import choose, find
from corridor.data.stream import Batches
from corridor.data.types import Data, Rows, Source, Split, StreamSplit, TensorSplit

MEMORY_LIMIT = 2 * 2**30  # bytes of decoded pixels, training and test images together
SAMPLED = 512  # images that mean and std of a streaming data set are estimated from
VERSION = 4  # version of the cached content; files of other versions are never read


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    limit: int | None = None,
) -> Data:
    """Load a data set by name.

    Up to 2 GiB of pixels are decoded into memory. The decoded images are cached in the folder
    CORRIDOR_CACHE, else in the user's cache folder. Larger data sets are decoded on the
    fly. They give equal images without augmentation, and `mean` and `std` come from a sample.

    Args:
        name: One of `NAMES`, with a path or a hub name in place of PATH or NAME.
        data_dir: Folder with local copies, which come before any download (default: the
            variable CORRIDOR_DATA): `cifar10/*.parquet`, `fashion-mnist/*-ubyte.gz`,
            `imagenet/{train,val}/`, or `NAME/*.parquet` for hf:NAME.
        image_size: Side that images are resized to, in pixels (default: the images' own).
        limit: Maximum number of training images, taken from the classes in turn (default: all).
            All test images are kept.

    Raises:
        ValueError: The name, a number, the labels or the sizes of images are wrong.
        OSError: A file or folder is missing or damaged, or the hub cannot be reached.
        ImportError: A library that reads the data set is not installed.

    Example:
        >>> data = load("digits", limit=100)
        >>> len(data.train), len(data.test), data.train.images.shape
        (100, 360, torch.Size([100, 1, 8, 8]))
    """
    for key, number in (("image_size", image_size), ("limit", limit)):
        if number is not None and number < 1:
            raise ValueError(f"{key} must be at least 1, got {number}")
    chosen = data_dir or os.environ.get("CORRIDOR_DATA")
    folder = Path(chosen).expanduser() if chosen else None
    if folder is not None and not folder.is_dir():
        key = "data_dir" if data_dir else "CORRIDOR_DATA"
        raise FileNotFoundError(f"{key} must be a folder, got {folder}; correct the path")
    source = find(name, folder)
    size = image_size or source.image_size
    streams = size is not None and 3 * source.count * size**2 > MEMORY_LIMIT
    path = _cache_file(name, source, size) if source.files and not streams else None
    data = _cached(path) if path else None
    if data is None:
        data = _opened(name, source, size, streams)
        if path:
            _save(path, data)
    if limit is not None and limit < len(data.train):
        data = replace(data, train=_selected(data.train, choose(data.train.labels, limit)))
    _check_classes(data)
    return data


def _opened(name: str, source: Source, size: int | None, streams: bool) -> Data:
    contents = source.read()
    last = len(contents.classes) - 1
    for part, rows in (("train", contents.train), ("test", contents.test)):
        if wrong := ((rows.labels < 0) | (rows.labels > last)).nonzero().flatten().tolist():
            raise ValueError(
                f"{name} ({part}) must have labels from 0 to {last}, got "
                f"{int(rows.labels[wrong[0]])} in row {wrong[0]} ({len(wrong)} wrong in all); "
                "number the classes from 0 without gaps"
            )
    channels = 1 if source.statistics is None and is_gray(contents.train) else 3
    first = open_image(contents.train, 0)
    if size is None and first.width != first.height:
        raise ValueError(
            f"{contents.train.where(0)} must be square, got {first.width} x {first.height}; "
            "give image_size to crop and resize all images"
        )
    side = size or first.width
    if size is None and source.count * channels * side**2 > MEMORY_LIMIT:
        raise ValueError(
            f"image_size must be given for {name}, which exceeds {MEMORY_LIMIT // 2**30} GiB "
            f"when decoded, got None; give it (the first image is {side} pixels wide)"
        )

    def split(rows: Rows, keep: float) -> Split:
        if streams:
            return StreamSplit(rows, torch.arange(len(rows)), channels, side, keep)
        pixels = decode(rows, channels, side, resize=size is not None, keep=keep)
        return TensorSplit(pixels, rows.labels)

    train, test = split(contents.train, 1.0), split(contents.test, source.keep)
    known = tuple(contents.classes), channels, side, *(source.statistics or _measured(train))
    return Data(name, contents.title, train, test, *known, flip=source.flip)


def _measured(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if isinstance(split, TensorSplit):
        return mean_and_std(split.images)
    sample = range(0, len(split), max(1, len(split) // SAMPLED))
    return mean_and_std(Batches(split, None, flip=False).read(sample)[0])


def _check_classes(data: Data) -> None:
    """Raise ValueError for a single class, and warn of classes without training images."""
    names, counts = data.classes, data.train.labels.bincount(minlength=len(data.classes)).tolist()
    if len(names) < 2:
        raise ValueError(
            f"{data.name} must have at least 2 classes, got only {', '.join(names)}; "
            "make one folder or label per class"
        )
    if absent := [name for name, count in zip(names, counts, strict=True) if count == 0]:
        warnings.warn(
            f"{len(absent)} of {len(names)} classes of {data.name} have no training images, such "
            f"as {absent[0]}",
            stacklevel=3,
        )


def _selected(split: Split, kept: Tensor) -> Split:
    if isinstance(split, StreamSplit):
        return replace(split, indices=split.indices[kept])
    return TensorSplit(split.images[kept], split.labels[kept])


def _cache_file(name: str, source: Source, size: int | None) -> Path:
    """Return the path of the decoded images, named by a hash of all that they depend on."""
    made_from = VERSION, PIL.__version__, name, size, source.keep, *source.classes
    hashed = digest(source.files, *made_from)
    readable = "".join(c if c.isalnum() else "-" for c in name)[:40].strip("-")
    return cache_folder() / f"{readable}-{hashed}.pt"


def _cached(path: Path) -> Data | None:
    try:
        # Processes on one machine share the memory of a mapped file.
        fields: dict[str, Any] = torch.load(path, weights_only=True, mmap=True)
        fields |= {key: TensorSplit(**fields[key]) for key in ("train", "test")}
        return Data(**fields)
    except Exception:  # a missing file, or damage, which raises errors of many classes
        return None


def _save(path: Path, data: Data) -> None:
    """Write a cache file. A failure is a warning."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            torch.save({**vars(data), "train": vars(data.train), "test": vars(data.test)}, file)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
        warnings.warn(
            f"decoded images are not cached in {path.parent}: {first_line(error)}", stacklevel=3
        )

"""Images by name: found, checked, decoded once, and served in batches.

`load` finds a data set, `Loader` makes batches of it. A new data set is one row in the table below:
a name, and a function of the text after the colon and the data folder that returns a `Source`.
"""

import os
from collections.abc import Callable
from pathlib import Path

from corridor.data import cifar10, digits, fashion_mnist, hub, imagefolder, parquet
from corridor.data.assemble import to_data
from corridor.data.loader import Loader
from corridor.data.source import Source
from corridor.data.types import Data, StreamSplit, TensorSplit

__all__ = ["NAMES", "Data", "Loader", "StreamSplit", "TensorSplit", "check_name", "load"]

_SOURCES: dict[str, Callable[[str, Path | None], Source]] = {
    "digits": digits.source,
    "cifar10": cifar10.source,
    "fashion-mnist": fashion_mnist.source,
    "imagenet": imagefolder.imagenet_source,
    "imagefolder:PATH": imagefolder.source,
    "parquet:PATH": parquet.source,
    "hf:NAME": hub.source,
}
NAMES = tuple(_SOURCES)


def check_name(name: str) -> None:
    """Raise a one-line ValueError unless `name` is in the table, without opening anything."""
    _row(name)


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    limit: int | None = None,
) -> Data:
    """Load the data set called `name`.

    Up to 2 GiB of pixels are decoded into memory, and kept on disk for the next time (in the folder
    CORRIDOR_CACHE, else in the user's cache folder); more is decoded on the fly, batch by batch.

    Args:
        name: one of `NAMES`, with a path or a name of the hub in place of PATH or NAME.
        data_dir: folder with local copies, one subfolder a data set (`cifar10/*.parquet`,
            `fashion-mnist/*-ubyte.gz`, `imagenet/{train,val}/`), which come before any download;
            the environment variable CORRIDOR_DATA if None.
        image_size: resize images to this side, in pixels; None keeps theirs.
        limit: keep this many training images, taken from the classes in turn; None keeps all.
            The test images are all kept.

    Raises:
        ValueError: unknown name, a number below 1, labels out of range, images of unequal size.
        OSError: a file or folder is missing, damaged or of another kind; the hub is out of reach.

    Example:
        >>> data = load("digits", limit=100)
        >>> len(data.train), len(data.test), data.train.images.shape
        (100, 360, torch.Size([100, 1, 8, 8]))
    """
    for key, number in (("image_size", image_size), ("limit", limit)):
        if number is not None and number < 1:
            raise ValueError(f"{key}: expected at least 1, got {number}")
    open_source, argument = _row(name)
    source = open_source(argument, _data_folder(data_dir))
    return to_data(name, source, image_size or source.image_size, limit)


def _row(name: str) -> tuple[Callable[[str, Path | None], Source], str]:
    head, colon, argument = name.partition(":")
    if not colon and head in _SOURCES:
        return _SOURCES[head], ""
    for key, source in _SOURCES.items():
        if colon and argument and key.startswith(f"{head}:"):
            return source, argument
    raise ValueError(f"data: expected one of {', '.join(NAMES)}, got {name!r}")


def _data_folder(data_dir: str | Path | None) -> Path | None:
    chosen = data_dir or os.environ.get("CORRIDOR_DATA")
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        origin = "data_dir" if data_dir else "CORRIDOR_DATA"
        raise FileNotFoundError(
            f"{origin}: expected a folder with local copies of data sets, found none at {folder}: "
            "correct the path or leave it out"
        )
    return folder

"""CIFAR-10: 60,000 colour images of 32x32 pixels, from parquet files or the hub."""

from dataclasses import replace
from pathlib import Path

from corridor.data.hub import hub_source
from corridor.data.jpeg import jpeg_quality
from corridor.data.parquet import parquet_source
from corridor.data.source import Contents, Source

TITLE = "CIFAR-10"
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def source(argument: str, data_dir: Path | None) -> Source:
    """CIFAR-10 (Krizhevsky, 2009), 50,000 images to train and 10,000 to test.

    Read from `data_dir/cifar10/*.parquet` if that folder exists, else from the hub. Copies that
    were compressed again as JPEG say so in their title.
    """
    folder = None if data_dir is None else data_dir / "cifar10"
    if folder is None or not folder.is_dir():
        return hub_source("cifar10", "uoft-cs/cifar10", _finish, place="cifar10/*.parquet")
    found = parquet_source(folder, TITLE)
    return replace(found, read=lambda: _finish(found.read()))


def _finish(contents: Contents) -> Contents:
    quality = jpeg_quality(contents.train)
    title = TITLE if quality is None else f"{TITLE} (JPEG q{quality})"
    return replace(contents, title=title, classes=CLASSES)

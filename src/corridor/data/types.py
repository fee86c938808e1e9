"""Define a data set before it is decoded (`Rows`, `Source`) and after it is loaded (`Data`)."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Hold the encoded images of one split, in a fixed order.

    Each image has one cell. It is the path of a file (str), the bytes of a file, a mapping with the
    key `bytes` or `path`, or pixels (uint8 [h, w] or [h, w, 3]).
    """

    cells: Any
    labels: Tensor  # class numbers, int64 [n]
    name: str  # of the split, in error messages

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, i: int) -> Image.Image:
        """Open image `i` without decoding it."""
        cell = self.cells[i]
        if isinstance(cell, dict):
            cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
        if isinstance(cell, bytes | str):
            return Image.open(io.BytesIO(cell) if isinstance(cell, bytes) else cell)
        if isinstance(cell, np.ndarray):
            return Image.fromarray(cell)
        raise TypeError(f"{type(cell).__name__}, not the bytes of an image file")

    def where(self, i: int) -> str:
        """Return the file of image `i`, or its row, for an error message."""
        cell = self.cells[i]
        return cell if isinstance(cell, str) else f"{self.name}, row {i}"


class Contents(NamedTuple):
    """Hold the splits of a source, its title for figures, and its class names in label order."""

    title: str
    classes: Sequence[str]
    train: Rows
    test: Rows


@dataclass(frozen=True)
class Source:
    """Name a data set that has been found. The function `read` opens it."""

    count: int  # images in both splits
    files: Sequence[str | Path]  # whose decoded images are cached; empty: never cached
    read: Callable[[], Contents]
    image_size: int | None = None  # in pixels, if the user gives none; None: the images' own
    flip: bool = True
    keep: float = 1.0  # share of the shorter side of test images, in memory and streaming
    classes: Sequence[str] = ()  # if known without reading; part of the name of the cached file
    # Published mean and standard deviation of pixels / 255 per channel. None: they are computed.
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True)
class TensorSplit:
    """Hold decoded images in memory.

    Args:
        images: Pixels, uint8 [n, channels, image_size, image_size].
        labels: Class numbers, int64 [n].
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class StreamSplit:
    """Decode images each time they are needed.

    Args:
        rows: The encoded images.
        indices: Positions in `rows` of the images of this split, int64 [n].
        channels: 1 (gray) or 3 (RGB).
        image_size: Side after resizing, in pixels.
        keep: Share of the shorter side that the centered square has, in (0, 1] (default: 1).
    """

    rows: Rows
    indices: Tensor
    channels: int
    image_size: int
    keep: float = 1.0

    @property
    def labels(self) -> Tensor:
        """Return the class numbers, int64 [n]."""
        return self.rows.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)


Split = TensorSplit | StreamSplit


@dataclass(frozen=True)
class Data:
    """Hold a loaded data set of square images.

    Args:
        name: Name given to `load`.
        title: Name on figures, for example "CIFAR-10 (JPEG q75)".
        train: Training images, in memory (`TensorSplit`) or streaming (`StreamSplit`).
        test: Test images, in memory or streaming.
        classes: Class names in label order.
        channels: 1 (gray) or 3 (RGB).
        image_size: Side in pixels.
        mean: Mean of pixels / 255 per channel, over all training images; over 512 to 1023 of them,
            evenly spread, if they stream. `limit` does not change it. For imagenet: as published.
        std: Standard deviation of pixels / 255 per channel, over the images of `mean`; 1 for a
            constant channel.
        flip: True if augmentation may mirror images (default: True).
    """

    name: str
    title: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool = True

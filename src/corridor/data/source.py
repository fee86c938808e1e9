"""What every data set offers before it is decoded: where it lies, how many images, how to open."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Rows(Protocol):
    """The images of one split, still encoded, in a fixed order."""

    @property
    def labels(self) -> Tensor:
        """Class numbers, int64 [n]."""
        ...

    def __len__(self) -> int: ...

    def open(self, i: int) -> Image.Image:
        """Open image `i`; any exception means that it cannot be read."""
        ...

    def where(self, i: int) -> str:
        """Name image `i` for an error message: its file, or its row."""
        ...


@dataclass(frozen=True)
class ArrayRows:
    """Images that already are pixels: uint8 [n, h, w], or [n, h, w, 3]."""

    images: np.ndarray
    labels: Tensor
    name: str

    def __len__(self) -> int:
        return len(self.images)

    def open(self, i: int) -> Image.Image:
        """Wrap image `i`."""
        return Image.fromarray(self.images[i])

    def where(self, i: int) -> str:
        """Name image `i`."""
        return f"{self.name}, image {i}"


@dataclass(frozen=True)
class Contents:
    """An opened data set.

    Attributes:
        title: its name on figures.
        classes: class names; labels index them.
        train: the training images.
        test: the test images.
    """

    title: str
    classes: tuple[str, ...]
    train: Rows
    test: Rows


@dataclass(frozen=True)
class Source:
    """A data set that has been found but not yet opened.

    Attributes:
        count: images in both splits.
        stamp: identifies the files and their state; a cache made of them is named after it.
        read: opens the data set, at the cost of an import or of a listing.
        channels: of the images, or the most they can have.
        image_size: side in pixels where the user names none; None for that of the images.
        flip: whether a mirror image keeps its class.
        mean: of pixels / 255 by channel, where it is known beforehand.
        std: likewise.
    """

    count: int
    stamp: Callable[[], object]
    read: Callable[[], Contents]
    channels: int = 3
    image_size: int | None = None
    flip: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def file_stamp(paths: Iterable[str | Path]) -> list[tuple[str, int, int]]:
    """Name, size in bytes and modification time in nanoseconds of each file."""
    states = ((path, os.stat(path)) for path in paths)
    return [(os.path.abspath(path), state.st_size, state.st_mtime_ns) for path, state in states]


def check_labels(labels: Tensor, classes: int, name: str) -> None:
    """Raise a one-line ValueError unless every label lies in 0 .. classes - 1."""
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"{name}: expected labels from 0 to {classes - 1}, "
            f"got {int(labels[i])} in row {i} ({len(wrong)} such): correct the labels"
        )


def balanced(labels: Tensor, limit: int) -> Tensor:
    """Indices of the first `limit` images, taken from the classes in turn, in ascending order.

    Args:
        labels: int64 [n].
        limit: images to keep; all of them if it is n or more.

    Example:
        >>> balanced(torch.tensor([0, 0, 0, 1, 0, 1]), 3).tolist()
        [0, 1, 3]
    """
    return _by_rank(labels, occurrence(labels).double(), limit)


def occurrence(labels: Tensor) -> Tensor:
    """How many earlier images have the same label, int64 [n].

    Example:
        >>> occurrence(torch.tensor([5, 7, 5, 5, 7])).tolist()
        [0, 0, 1, 2, 1]
    """
    order = torch.argsort(labels, stable=True)
    _, counts = torch.unique_consecutive(labels[order], return_counts=True)
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - starts
    return rank


def _by_rank(labels: Tensor, rank: Tensor, limit: int) -> Tensor:
    by_label = torch.argsort(labels, stable=True)
    order = by_label[torch.argsort(rank[by_label], stable=True)]
    return order[:limit].sort().values


def stratified(labels: Tensor, limit: int) -> Tensor:
    """Indices of `limit` images with each class in proportion to its size, in ascending order.

    Args:
        labels: int64 [n].
        limit: images to take, in all.

    Example:
        >>> stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 3).tolist()
        [0, 1, 4]
    """
    sizes = torch.bincount(labels)[labels]
    return _by_rank(labels, (occurrence(labels) + 0.5) / sizes, limit)

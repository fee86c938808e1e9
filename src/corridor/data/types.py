"""Loaded data sets: images with labels, in memory or streaming, and what is known of them."""

from dataclasses import dataclass

from torch import Tensor

from corridor.data.source import Rows


@dataclass(frozen=True)
class TensorSplit:
    """Images in memory.

    Attributes:
        images: uint8 [n, channels, image_size, image_size].
        labels: int64 [n].
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class StreamSplit:
    """Images that are decoded when they are needed.

    Attributes:
        rows: the encoded images.
        indices: those of them that belong to the split, int64 [n].
        channels: 1 or 3.
        image_size: side after resizing, in pixels.
    """

    rows: Rows
    indices: Tensor
    channels: int
    image_size: int

    @property
    def labels(self) -> Tensor:
        """Class numbers, int64 [n]."""
        return self.rows.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Data:
    """A loaded data set of square images.

    Attributes:
        name: what it was asked for by.
        title: its name on figures, e.g. "CIFAR-10 (JPEG q75)".
        train: the training images, `TensorSplit` or `StreamSplit`; `len` counts them.
        test: the test images.
        classes: class names, indexed by the labels.
        channels: 1 (grey) or 3 (RGB).
        image_size: side, in pixels.
        mean: of pixels / 255 over all training images, by channel. Training images that a `limit`
            leaves out count too, so that subsets of one data set are normalised alike.
        std: standard deviation, likewise; 1 for a channel that never changes.
        flip: whether a mirror image keeps its class, so that augmentation may use it.
    """

    name: str
    title: str
    train: TensorSplit | StreamSplit
    test: TensorSplit | StreamSplit
    classes: tuple[str, ...]
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool = True

"""Make batches ready for the model: shuffled, augmented, on the device, normalized."""

from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from corridor.data.rng import crop_and_flip, generator
from corridor.data.stream import Batches, stream
from corridor.data.types import Data, Split, StreamSplit, TensorSplit

TEST_PIXELS = 2**20  # pixels per channel in a batch of small test images


@dataclass(eq=False)
class Loader:
    """Make the batches of a data set, as functions of (seed, epoch, index) alone.

    A run can therefore resume in the middle of an epoch. Images in memory move to the device once,
    as bytes. Each batch is picked, augmented and normalized there: (pixel / 255 - mean) / std.

    Args:
        data: Data set that `load` returned.
        batch_size: Number of images per batch, 1 or more; at most the training set.
        device: Device of the batches.
        seed: Seed of order and augmentation (default: 0).
        augment: True for random crops, and mirror images if `data.flip` (default: False).
        drop_last: True to leave out a last training batch that is not full (default: True).
        channels_last: True for images in channels_last memory format (default: False).
        workers: Number of processes that decode a streaming data set (default: 0, this process).
        rank: Index of this process, 0 to `ranks` - 1 (default: 0).
        ranks: Number of processes that share each batch (default: 1).

    Attributes:
        steps_per_epoch: Number of training batches per epoch.

    Example:
        >>> from corridor.data import load
        >>> loader = Loader(load("digits"), batch_size=128, device="cpu")
        >>> images, labels = next(loader.train(epoch=0))
        >>> images.shape, labels.dtype, loader.steps_per_epoch
        (torch.Size([128, 1, 8, 8]), torch.int64, 11)
    """

    data: Data
    _: KW_ONLY
    batch_size: int
    device: torch.device | str
    seed: int = 0
    augment: bool = False
    drop_last: bool = True
    channels_last: bool = False
    workers: int = 0
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        for key, least in (("batch_size", 1), ("workers", 0)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} must be at least {least}, got {getattr(self, key)}")
        data, device = self.data, torch.device(self.device)
        self.batch_size = min(self.batch_size, len(data.train))
        full, rest = divmod(len(data.train), self.batch_size)
        self.steps_per_epoch = full if self.drop_last or rest == 0 else full + 1
        self._layout = torch.channels_last if self.channels_last else torch.contiguous_format
        mean, std = torch.tensor([data.mean, data.std], dtype=torch.float64).view(2, -1, 1, 1)
        self._scale = (1 / (255 * std)).to(device, torch.float32)
        self._shift = (-mean / std).to(device, torch.float32)
        self._train, self._test = (
            TensorSplit(split.images.to(device), split.labels.to(device))
            if isinstance(split, TensorSplit)
            else split
            for split in (data.train, data.test)
        )

    def size(self, index: int) -> int:
        """Return the number of images in training batch `index`, over all ranks."""
        return min(self.batch_size, len(self._train) - index * self.batch_size)

    def train(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the training batches: float32 images [b, c, size, size] and int64 labels [b].

        Args:
            epoch: Index of the epoch, 0 or more; each epoch has its own order.
            start: Index of the first batch, 0 to `steps_per_epoch` (default: 0). Batches before it
                are not read.
        """
        if not 0 <= start <= self.steps_per_epoch:
            raise ValueError(f"start must be from 0 to {self.steps_per_epoch}, got {start}")
        order = torch.randperm(len(self._train), generator=generator(self.seed, epoch))
        batches = order.split(self.batch_size)[start : self.steps_per_epoch]
        mine = (batch[self._part(len(batch))] for batch in batches)
        return self._batches(self._train, mine, epoch if self.augment else None, start)

    def test(self, batch_size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Return all test images in their own order. The last batch may be smaller.

        Args:
            batch_size: Number of images per batch (default: this rank's part of a training batch;
                for images in memory at least a million pixels).
        """
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        size = batch_size or -(-self.batch_size // self.ranks)
        if batch_size is None and isinstance(self._test, TensorSplit):
            size = max(size, TEST_PIXELS // self.data.image_size**2)
        count = len(self._test)
        mine = torch.arange(count)[self._part(count)]
        longest = -(-count // self.ranks)  # all ranks make equally many batches
        batches = mine.tensor_split(-(-longest // size)) if self.ranks > 1 else mine.split(size)
        return self._batches(self._test, batches, None, 0)

    def _part(self, count: int) -> slice:
        return slice(self.rank * count // self.ranks, (self.rank + 1) * count // self.ranks)

    def _batches(
        self, split: Split, positions: Iterable[Tensor], epoch: int | None, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Read and normalize batches. Training batches are augmented."""
        if isinstance(split, StreamSplit):
            found = self._decoded(split, positions, epoch)
        else:
            found = self._picked(split, positions, epoch, start)
        for images, labels in found:
            # The layout changes while the images are bytes: a quarter of the memory traffic.
            pixels = images.contiguous(memory_format=self._layout)
            yield pixels.float().mul_(self._scale).add_(self._shift), labels

    def _picked(
        self, split: TensorSplit, positions: Iterable[Tensor], epoch: int | None, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for i, batch in enumerate(positions, start):
            chosen = batch.to(self.device)
            images = split.images.index_select(0, chosen)
            if epoch is not None:
                draw, count = generator(self.seed, epoch, i), self.size(i)
                part, flip = self._part(count), self.data.flip
                images = crop_and_flip(images, draw, flip=flip, part=part, of=count)
            yield images, split.labels.index_select(0, chosen)

    def _decoded(
        self, split: StreamSplit, positions: Iterable[Tensor], epoch: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        augment = None if epoch is None else (self.seed, epoch)
        source = Batches(split, augment, flip=self.data.flip)
        order, pin = [batch.tolist() for batch in positions], self._scale.is_cuda
        for images, labels in stream(source, order, workers=self.workers, pin=pin):
            moved = images.to(self.device, non_blocking=True)
            yield moved, labels.to(self.device, non_blocking=True)

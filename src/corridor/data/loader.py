"""Batches ready for the model: shuffled, augmented, on the device, normalised."""

from collections.abc import Iterator

import torch
from torch import Tensor

from corridor.data.augment import crop_and_flip
from corridor.data.rng import generator
from corridor.data.stream import Batches, stream
from corridor.data.types import Data, StreamSplit, TensorSplit

TEST_PIXELS = 2**20  # a channel, in a batch of test images, where the user names no size


class Loader:
    """Batches of a data set, the training batches a function of (seed, epoch, index) alone.

    Batch i of an epoch holds the same images with the same augmentation however many batches were
    drawn before, so a run resumes in mid-epoch from these three numbers. Images in memory move to
    the device once, as bytes; each batch is then picked, augmented and normalised there:
    (pixel / 255 - mean) / std.

    Args:
        data: what `load` returned.
        batch_size: images a batch; more than there are means all of them.
        device: where batches are wanted.
        seed: of order and augmentation.
        augment: random crops, and mirror images where they keep their class (`data.flip`).
        drop_last: leave out the last training batch if it is not full.
        channels_last: images in channels_last memory format.
        workers: processes that decode a streaming data set; unused for one in memory.
        rank: which of several processes this is; each gets its own part of every batch.
        ranks: how many there are.

    Attributes:
        steps_per_epoch: training batches an epoch.

    Raises:
        ValueError: a batch size below 1, or a number of workers below 0.

    Example:
        >>> from corridor.data import load
        >>> loader = Loader(load("digits"), batch_size=128, device="cpu")
        >>> images, labels = next(loader.train(epoch=0))
        >>> images.shape, labels.dtype, loader.steps_per_epoch
        (torch.Size([128, 1, 8, 8]), torch.int64, 11)
    """

    def __init__(
        self,
        data: Data,
        *,
        batch_size: int,
        device: torch.device | str,
        seed: int = 0,
        augment: bool = False,
        drop_last: bool = True,
        channels_last: bool = False,
        workers: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if workers < 0:
            raise ValueError(f"workers: expected 0 or more processes, got {workers}")
        images = len(data.train)
        self.data = data
        self.device = torch.device(device)
        self.batch_size = min(batch_size, images)
        self.seed = seed
        self.augment = augment
        self.workers = workers
        self.rank, self.ranks = rank, ranks
        full, rest = divmod(images, self.batch_size)
        self.steps_per_epoch = full if drop_last or rest == 0 else full + 1
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        mean = torch.tensor(data.mean, dtype=torch.float64).view(-1, 1, 1)
        std = torch.tensor(data.std, dtype=torch.float64).view(-1, 1, 1)
        self._scale = (1 / (255 * std)).to(self.device, torch.float32)
        self._shift = (-mean / std).to(self.device, torch.float32)
        self._train = self._moved(data.train)
        self._test = self._moved(data.test)

    def size(self, index: int) -> int:
        """Images in training batch `index` of an epoch, those of all ranks."""
        return min(self.batch_size, len(self._train) - index * self.batch_size)

    def _part(self, count: int) -> slice:
        """What of a batch of so many is this rank's."""
        return slice(self.rank * count // self.ranks, (self.rank + 1) * count // self.ranks)

    def train(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The training batches of `epoch`, from batch `start` on; earlier ones are not read.

        Args:
            epoch: 0 or later; each has its own order.
            start: index of the first batch, 0 to `steps_per_epoch`.

        Returns:
            Batches of float32 images [b, c, size, size] and int64 labels [b], on the device.

        Raises:
            ValueError: `start` beyond the epoch.
        """
        if not 0 <= start <= self.steps_per_epoch:
            raise ValueError(
                f"start: expected a batch from 0 to {self.steps_per_epoch}, got {start}"
            )
        order = torch.randperm(len(self._train), generator=generator(self.seed, epoch))
        if isinstance(self._train, StreamSplit):
            return self._stream(self._train, order, self.batch_size, start, epoch)
        return self._train_batches(self._train, order.to(self.device), epoch, start)

    def test(self, batch_size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """All test images in their own order, the last batch as small as it comes out.

        Args:
            batch_size: images a batch; by default at least those of a training batch that are this
                rank's, and as many small images as make a million pixels.
        """
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        mine = -(-self.batch_size // self.ranks)
        if isinstance(self._test, StreamSplit):
            order = torch.arange(len(self._test))
            return self._stream(self._test, order, batch_size or mine, 0, None)
        many = max(mine, TEST_PIXELS // self.data.image_size**2)
        return self._test_batches(self._test, batch_size or many)

    def _moved(self, split: TensorSplit | StreamSplit) -> TensorSplit | StreamSplit:
        if isinstance(split, StreamSplit):
            return split
        return TensorSplit(split.images.to(self.device), split.labels.to(self.device))

    def _train_batches(
        self, split: TensorSplit, order: Tensor, epoch: int, start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(start, self.steps_per_epoch):
            chosen = order[i * self.batch_size : (i + 1) * self.batch_size]
            count, part = len(chosen), self._part(len(chosen))
            chosen = chosen[part]
            images = split.images.index_select(0, chosen)
            if self.augment:
                draw = generator(self.seed, epoch, i)
                images = crop_and_flip(images, draw, flip=self.data.flip, part=part, of=count)
            yield self._normalised(images), split.labels.index_select(0, chosen)

    def _test_batches(self, split: TensorSplit, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for positions in self._shared(torch.arange(len(split), device=self.device), size):
            yield self._normalised(split.images[positions]), split.labels[positions]

    def _shared(self, order: Tensor, size: int) -> list[Tensor]:
        """This rank's part of an order in batches; as many on every rank, if some are empty."""
        if self.ranks == 1:
            return list(order.split(size))
        longest = -(-len(order) // self.ranks)
        return list(order[self._part(len(order))].tensor_split(-(-longest // size)))

    def _stream(
        self, split: StreamSplit, order: Tensor, size: int, start: int, epoch: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        steps = self.steps_per_epoch if epoch is not None else None
        if epoch is None:
            positions = [batch.tolist() for batch in self._shared(order, size)]
        else:
            batches = order.split(size)[start:steps]
            positions = [batch[self._part(len(batch))].tolist() for batch in batches]
        augment = (self.seed, epoch) if self.augment and epoch is not None else None
        source = Batches(split, augment, self.data.flip)
        pin = self.device.type == "cuda"
        for images, labels in stream(source, positions, workers=self.workers, pin=pin):
            images = images.to(self.device, non_blocking=True)
            yield self._normalised(images), labels.to(self.device, non_blocking=True)

    def _normalised(self, images: Tensor) -> Tensor:
        # The layout changes while the images are bytes: a quarter of the memory traffic.
        pixels = images.contiguous(memory_format=self._layout)
        return pixels.float().mul_(self._scale).add_(self._shift)

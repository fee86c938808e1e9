"""Batches decoded on the fly, in this process or in a DataLoader's workers."""

import random
import signal
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from corridor.data.images import fit, pixels, random_crop, read_image
from corridor.data.rng import derive, generator
from corridor.data.types import StreamSplit

KEPT = 7 / 8  # of the shorter side, at the test: 224 of 256 pixels


class Batches(Dataset):
    """Batches of a streaming split, looked up by the positions of their images in it.

    Args:
        split: the images.
        augment: (seed, epoch) for random crops, the same for an image whatever batch and worker
            it falls to; None for the centre.
        flip: whether augmentation mirrors images too, with probability 1/2.
    """

    def __init__(self, split: StreamSplit, augment: tuple[int, int] | None, flip: bool):
        self.split = split
        self.augment = augment
        self.flip = flip

    def __getitem__(self, positions: Sequence[int]) -> tuple[Tensor, Tensor] | Exception:
        """What `read` returns, or the error it raises.

        Raised in a worker, an error would arrive with a traceback as its message.
        """
        try:
            return self.read(positions)
        except (OSError, ValueError) as error:
            return error

    def read(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Decode a batch: uint8 [b, c, size, size] and int64 [b]."""
        chosen = self.split.indices[torch.as_tensor(positions)]
        images = [torch.from_numpy(self._image(int(i)).copy()) for i in chosen]
        return torch.stack(images), self.split.rows.labels[chosen]

    def _image(self, i: int) -> np.ndarray:
        image = read_image(self.split.rows, i, self.split.channels)
        if self.augment is None:
            return pixels(fit(image, self.split.image_size, keep=KEPT))
        draw = random.Random(derive(*self.augment, i))
        array = pixels(random_crop(image, self.split.image_size, draw))
        return array[:, :, ::-1] if self.flip and draw.random() < 0.5 else array


def stream(
    batches: Batches, order: Sequence[Sequence[int]], *, workers: int, pin: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches that `order` lists, each as positions in the split, in that order.

    Args:
        batches: how a batch is decoded.
        order: what the batches are made of; images in none of them are never read.
        workers: processes that decode ahead; 0 decodes here.
        pin: put batches into page-locked memory, for copies to a GPU.

    Raises:
        OSError: an image cannot be decoded.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        pin_memory=pin,
        collate_fn=_unchanged,
        # Workers get their seeds from here instead of from torch's global generator, which would
        # move, and with it everything that is drawn from it later.
        generator=generator(0),
        worker_init_fn=_deaf,
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


def _deaf(worker: int) -> None:
    """Leave signals that reach the whole process group to the main process, which saves first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _unchanged(batch: object) -> object:
    return batch

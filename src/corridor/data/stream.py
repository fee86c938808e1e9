"""Batches decoded on the fly, in this process or in a DataLoader's workers."""

import random
import signal
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from corridor.data.images import fit, random_crop, read_image
from corridor.data.rng import derive, generator
from corridor.data.types import StreamSplit

PIECE = 64  # images that one worker decodes at a time: a batch is shared out among all of them
AHEAD = 2  # batches that workers are ahead by
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
        """Decode a batch: uint8 [b, c, size, size], channels last in memory, and int64 [b]."""
        chosen = self.split.indices[torch.as_tensor(positions)]
        size = self.split.image_size
        images = np.empty((len(chosen), size, size, self.split.channels), np.uint8)
        for row, i in enumerate(chosen):
            images[row] = self._image(int(i))
        return torch.from_numpy(images).permute(0, 3, 1, 2), self.split.rows.labels[chosen]

    def _image(self, i: int) -> np.ndarray:
        """Image `i` as it lies in memory once decoded: [size, size, c]."""
        image = read_image(self.split.rows, i, self.split.channels)
        if self.augment is None:
            return _rows_of(fit(image, self.split.image_size, keep=KEPT))
        draw = random.Random(derive(*self.augment, i))
        array = _rows_of(random_crop(image, self.split.image_size, draw))
        return array[:, ::-1] if self.flip and draw.random() < 0.5 else array


def _rows_of(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def stream(
    batches: Batches, order: Sequence[Sequence[int]], *, workers: int, pin: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches that `order` lists, each as positions in the split, in that order.

    Workers decode pieces of a batch, so that a large one is there as soon as all cores can have
    decoded it, and no more than a few lie in memory however many workers there are.

    Args:
        batches: how a batch is decoded.
        order: what the batches are made of; images in none of them are never read.
        workers: processes that decode ahead; 0 decodes here.
        pin: put batches into page-locked memory, for copies to a GPU.

    Raises:
        OSError: an image cannot be decoded.
    """
    size = PIECE if workers else max(map(len, order), default=1)
    parts = [[b[i : i + size] for i in range(0, max(len(b), 1), size)] for b in order]
    many = max(map(len, parts), default=1)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=[piece for pieces in parts for piece in pieces],  # pyright: ignore[reportArgumentType]
        num_workers=workers,
        prefetch_factor=max(2, -(-AHEAD * many // workers)) if workers else None,
        collate_fn=_unchanged,
        # Workers get their seeds from here instead of from torch's global generator, which would
        # move, and with it everything that is drawn from it later.
        generator=generator(0),
        worker_init_fn=_deaf,
    )
    decoded = iter(loader)
    piece = None
    try:
        for pieces in parts:
            found = []
            for _ in pieces:
                piece = next(decoded)
                if isinstance(piece, Exception):
                    raise piece
                found.append(piece)
            yield _joined(found, pin)
    finally:
        # A raised error keeps this frame, and with it workers that nobody would ever end.
        del decoded, piece


def _joined(pieces: list[tuple[Tensor, Tensor]], pin: bool) -> tuple[Tensor, Tensor]:
    """Pieces of a batch as one, copied once."""
    if len(pieces) == 1 and not pin:
        return pieces[0]
    images = [images.permute(0, 2, 3, 1) for images, _ in pieces]  # as they lie in memory
    labels = [labels for _, labels in pieces]
    count = sum(map(len, labels))
    whole = torch.empty((count, *images[0].shape[1:]), dtype=torch.uint8, pin_memory=pin)
    answers = torch.empty(count, dtype=torch.int64, pin_memory=pin)
    torch.cat(images, out=whole)
    return whole.permute(0, 3, 1, 2), torch.cat(labels, out=answers)


def _deaf(worker: int) -> None:
    """Leave signals that reach the whole process group to the main process, which saves first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _unchanged(batch: object) -> object:
    return batch

"""Decode batches on the fly, in this process or in the workers of a DataLoader."""

import random
import signal
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from corridor.data.decode import fit, random_crop, read_image
from corridor.data.rng import derive, generator
from corridor.data.types import StreamSplit

PIECE = 64  # images that one worker decodes at a time; all workers share each batch
AHEAD = 2


class Batches(Dataset):
    """Decode batches of a streaming split.

    `augment` is (seed, epoch) for random crops, and None for the centered square. With `flip`,
    augmented images are mirrored with probability 1/2.
    """

    def __init__(self, split: StreamSplit, augment: tuple[int, int] | None, *, flip: bool):
        self.split, self.augment, self.flip = split, augment, flip

    def __getitem__(self, positions: Sequence[int]) -> tuple[Tensor, Tensor] | Exception:
        """Return the batch or an error. An error that a worker raises becomes a traceback."""
        try:
            return self.read(positions)
        except (OSError, ValueError) as error:
            return error

    def read(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return uint8 images [b, c, size, size], channels last in memory, and int64 labels [b]."""
        chosen = self.split.indices[torch.as_tensor(positions)]
        size = self.split.image_size
        pixels = np.empty((len(chosen), size, size, self.split.channels), np.uint8)
        for row, i in enumerate(chosen.tolist()):
            image, mirrored = read_image(self.split.rows, i, self.split.channels), False
            if self.augment is None:
                cut = fit(image, size, self.split.keep)
            else:
                draw = random.Random(derive(*self.augment, i))
                cut, mirrored = random_crop(image, size, draw), self.flip and draw.random() < 0.5
            found = np.asarray(cut).reshape(pixels.shape[1:])
            pixels[row] = found[:, ::-1] if mirrored else found
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), self.split.rows.labels[chosen]


def stream(
    batches: Batches, order: Sequence[Sequence[int]], *, workers: int, pin: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of decoded images in the given order.

    `order` has the positions of the images of each batch. Other images are never read. Workers
    decode pieces of a batch, so that all cores work on the next batch. Only a few batches lie in
    memory, for any number of workers. Pinned batches are copied faster to a GPU.
    """
    size = PIECE if workers else max(map(len, order), default=1)
    parts = [[b[i : i + size] for i in range(0, max(len(b), 1), size)] for b in order]
    many = max(map(len, parts), default=1)
    decoded = iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=[piece for pieces in parts for piece in pieces],  # pyright: ignore[reportArgumentType]
            num_workers=workers,
            prefetch_factor=max(2, -(-AHEAD * many // workers)) if workers else None,
            # Without it, seeds of workers are drawn from torch's global generator, which moves.
            generator=generator(0),
            worker_init_fn=_ignore_signals,
        )
    )
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
        # A raised error keeps this frame alive, and the frame would keep the workers alive.
        del decoded, piece


def _joined(pieces: list[tuple[Tensor, Tensor]], pin: bool) -> tuple[Tensor, Tensor]:
    """Join the pieces of a batch with a single copy."""
    if len(pieces) == 1 and not pin:
        return pieces[0]
    images = [images.permute(0, 2, 3, 1) for images, _ in pieces]  # the order in memory
    labels = [labels for _, labels in pieces]
    count = sum(map(len, labels))
    whole = torch.empty((count, *images[0].shape[1:]), dtype=torch.uint8, pin_memory=pin)
    answers = torch.empty(count, dtype=torch.int64, pin_memory=pin)
    torch.cat(images, out=whole)
    return whole.permute(0, 3, 1, 2), torch.cat(labels, out=answers)


def _ignore_signals(worker: int) -> None:
    """Ignore signals in a worker: the main process must save before workers end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

"""Make random numbers as functions of their purpose, and random crops of a whole batch."""

import hashlib

import torch
from torch import Tensor

WHOLE = slice(None)


def derive(*numbers: int) -> int:
    """Return a seed of 63 bits made from whole numbers, such as seed, epoch and batch index."""
    text = "/".join(str(number) for number in numbers)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*numbers: int) -> torch.Generator:
    """Return a generator with the seed `derive(*numbers)`, on the CPU: equal on all devices."""
    return torch.Generator().manual_seed(derive(*numbers))


def crop_and_flip(
    images: Tensor, generator: torch.Generator, *, flip: bool, part: slice = WHOLE, of: int = 0
) -> Tensor:
    """Shift each image by up to `size // 8` pixels and mirror it with probability 1/2.

    The result equals padding by reflection and cropping at random (4 pixels for 32 x 32). The
    padded images are never made. `images`, uint8 [b, c, size, size], are `part` of a batch of `of`
    images, which gives each image its random numbers (default: they are the whole batch).
    """
    b, c, size, _ = images.shape
    pad, n = size // 8, of or b
    shifts = torch.randint(-pad, pad + 1, (2, n, 1), generator=generator)[:, part]
    mirrored = torch.randint(0, 2, (n, 1), generator=generator) if flip else torch.zeros(n, 1)
    shifts, mirrored = shifts.to(images.device), mirrored[part].to(images.device).bool()
    along = torch.arange(size, device=images.device)
    rows = _reflected(along + shifts[0], size)
    columns = _reflected(torch.where(mirrored, along.flip(0), along) + shifts[1], size)
    positions = (rows[:, :, None] * size + columns[:, None, :]).view(b, 1, size * size)
    flat = images.reshape(b, c, size * size)
    return flat.gather(2, positions.expand(-1, c, -1)).view(b, c, size, size)


def _reflected(positions: Tensor, size: int) -> Tensor:
    return size - 1 - (size - 1 - positions.abs()).abs()

"""Random crops and mirror images of a whole batch at once, on the device that holds it."""

import torch
from torch import Tensor

WHOLE = slice(None)


def crop_and_flip(
    images: Tensor, generator: torch.Generator, *, flip: bool, part: slice = WHOLE, of: int = 0
) -> Tensor:
    """Shift each image by up to `size // 8` pixels either way, and mirror it with probability 1/2.

    What a shift leaves open is filled by reflection at the border: the same as padding by
    reflection and cropping at random (4 pixels for 32 x 32), without making the padded images.

    Args:
        images: uint8 [b, c, size, size].
        generator: on the CPU, so that every device draws the same numbers.
        flip: whether to mirror at all.
        part: which images of a larger batch these are, so that each is moved as it is there.
        of: how many that batch has; by default these are all.

    Returns:
        A new tensor like `images`.

    Example:
        >>> images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
        >>> crop_and_flip(images, torch.Generator().manual_seed(0), flip=True).shape
        torch.Size([1, 1, 8, 8])
    """
    b, c, size, _ = images.shape
    pad = size // 8
    n = of or b
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

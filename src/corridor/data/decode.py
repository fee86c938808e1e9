"""Whole splits at once: decoded into one tensor, and its mean and standard deviation."""

import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from corridor.data.images import fit, pixels, read_image
from corridor.data.source import Rows

THREADS_PAY_FROM = 128 * 128  # pixels; below, Python's own work per image outweighs the decoder's


def decode(rows: Rows, channels: int, size: int, *, resize: bool) -> Tensor:
    """Decode every image.

    Args:
        rows: the encoded images.
        channels: 1 or 3.
        size: side of the result, in pixels.
        resize: bring other sizes to `size`; otherwise they are refused.

    Returns:
        uint8 [n, channels, size, size].

    Raises:
        OSError: an image cannot be decoded.
        ValueError: an image has another size and `resize` is false.
    """
    images = torch.empty((len(rows), channels, size, size), dtype=torch.uint8)
    target = images.numpy()
    large = []

    def put(i: int) -> None:
        image = read_image(rows, i, channels)
        large.append(image.width * image.height >= THREADS_PAY_FROM)
        if resize:
            image = fit(image, size)
        elif image.size != (size, size):
            raise ValueError(
                f"{rows.where(i)}: expected {size} x {size} pixels like the first image, "
                f"got {image.width} x {image.height}: give image_size to resize all"
            )
        target[i] = pixels(image)

    if len(rows):
        put(0)
    rest = range(1, len(rows))
    if large and large[0]:
        with ThreadPoolExecutor(_cores()) as pool:
            for _ in pool.map(put, rest):
                pass
    else:
        for i in rest:
            put(i)
    return images


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def mean_and_std(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels / 255 by channel, from exact counts of the 256 levels.

    Args:
        images: uint8 [n, channels, h, w].

    Example:
        >>> mean_and_std(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
        ((0.5,), (0.5,))
    """
    level = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = torch.zeros(256, dtype=torch.float64)
        for part in images[:, channel].split(4096):
            counts += torch.bincount(part.flatten(), minlength=256)
        share = counts / counts.sum()
        mean = float(share @ level)
        means.append(mean)
        deviations.append(float(share @ (level - mean).square()) ** 0.5 or 1.0)
    return tuple(means), tuple(deviations)

"""Decode images: open, convert and resize an image, decode a split, read the JPEG quality."""

import contextlib
import io
import random
import re
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from corridor.data.types import Rows

GRAY_MODES = ("1", "L", "LA")
MODES = (*GRAY_MODES, "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
SAMPLED = 64  # images whose modes decide between gray and color


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"  # its message is the address of a buffer
    return (str(error).splitlines() or [type(error).__name__])[0]


def open_image(rows: Rows, i: int) -> Image.Image:
    """Decode image `i` and turn it upright (EXIF), or raise OSError for its fault."""
    try:
        image = rows.open(i)
        deep = _is_deep(image)
        image.load()
        with contextlib.suppress(Exception):  # damaged EXIF data leave the pixels readable
            ImageOps.exif_transpose(image, in_place=True)
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    except Exception as error:  # decoders raise errors of many classes for damaged input
        raise _wrong(rows, i, f"be an image, got: {first_line(error)}; replace it") from error
    if deep or image.mode not in MODES:
        got = f"16 bits ({image.mode})" if deep else f"mode {image.mode}"
        raise _wrong(rows, i, f"have 8 bits per channel, got {got}; convert it")
    if alpha is not None and alpha.tobytes().strip(b"\xff"):
        raise _wrong(rows, i, "be opaque, got transparent pixels; paste it on a background")
    return image


def _is_deep(image: Image.Image) -> bool:
    """Return True if the file has 16 bits per channel. Pillow drops half of them at `load`."""
    parts = str([tile[3] for tile in getattr(image, "tile", ())])
    levels = re.search(r"\('RGB', (\d+)\)", parts) if image.format == "PPM" else None
    return bool(re.search(r";16[BLNS]", parts) or (levels and int(levels[1]) > 255))


def _wrong(rows: Rows, i: int, what: str) -> OSError:
    return OSError(f"{rows.where(i)} must {what}")


def is_gray(rows: Rows) -> bool:
    """Return True if a sample of images, spread evenly over `rows`, is stored as gray."""
    step = max(1, len(rows) // SAMPLED)
    return all(open_image(rows, i).mode in GRAY_MODES for i in range(0, len(rows), step))


def read_image(rows: Rows, i: int, channels: int) -> Image.Image:
    """Return image `i` in mode L (1 channel) or RGB (3 channels), or raise OSError."""
    image = open_image(rows, i)
    if channels == 1 and image.mode not in GRAY_MODES:
        raise _wrong(rows, i, f"be gray like other images, got mode {image.mode}; convert it")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparency
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def fit(image: Image.Image, size: int, keep: float = 1.0) -> Image.Image:
    """Scale the centered square of `image` to `size` x `size` pixels.

    The square has the share `keep` of the shorter side. A whole factor averages pixels (box
    filter). Any other factor is bilinear and antialiased.
    """
    width, height = image.size
    side = keep * min(width, height)
    if width == height == side == size:
        return image
    left, top = (width - side) / 2, (height - side) / 2
    whole = all(value == int(value) for value in (left, top, side)) and side % size == 0
    resampling = Image.Resampling.BOX if whole else Image.Resampling.BILINEAR
    return image.resize((size, size), resampling, box=(left, top, left + side, top + side))


def random_crop(image: Image.Image, size: int, draw: random.Random) -> Image.Image:
    """Scale a random rectangle of `image` to `size` x `size` pixels (Szegedy et al., 2015).

    Its area is 8% to 100% of the image. Its aspect ratio lies between 3/4 and 4/3, uniform in the
    logarithm. After ten rectangles that do not fit, the centered square is scaled.
    """
    width, height = image.size
    for _ in range(10):
        area = width * height * draw.uniform(0.08, 1.0)
        aspect = (4 / 3) ** draw.uniform(-1.0, 1.0)
        w, h = (area * aspect) ** 0.5, (area / aspect) ** 0.5
        if w <= width and h <= height:
            left, top = draw.uniform(0, width - w), draw.uniform(0, height - h)
            box = (left, top, left + w, top + h)
            return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return fit(image, size)


def decode(rows: Rows, channels: int, size: int, *, resize: bool, keep: float = 1.0) -> Tensor:
    """Decode every image and return the pixels, uint8 [n, channels, size, size]."""
    pixels = np.empty((len(rows), channels, size, size), np.uint8)
    for i in range(len(rows)):
        image = read_image(rows, i, channels)
        if resize:
            image = fit(image, size, keep)
        elif image.size != (size, size):
            raise ValueError(
                f"{rows.where(i)} must have {size} x {size} pixels like the first training image, "
                f"got {image.width} x {image.height}; give image_size to resize all images"
            )
        pixels[i] = np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)
    return torch.from_numpy(pixels)


def mean_and_std(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return exact mean and deviation of pixels / 255 per channel; 1 for a constant channel."""
    level = torch.arange(256, dtype=torch.float64) / 255
    channels = [channel.flatten() for channel in images.unbind(1)]
    shares = [torch.bincount(x, minlength=256).double() / len(x) for x in channels]
    means = [float(share @ level) for share in shares]
    variances = [share @ (level - mean) ** 2 for share, mean in zip(shares, means, strict=True)]
    return tuple(means), tuple(float(variance) ** 0.5 or 1.0 for variance in variances)


def jpeg_quality(image: Image.Image) -> int | None:
    """Return the quality of an opened JPEG file, 1 to 100; None for other formats.

    Pillow's table of this quality is nearest to the image's own quantization table, by the sum of
    absolute differences. The answer is exact for files that libjpeg wrote.
    """
    if image.format != "JPEG":
        return None
    table = image.quantization[min(image.quantization)]  # pyright: ignore[reportAttributeAccessIssue]

    def distance(quality: int) -> int:
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        other: Any = Image.open(file)
        return sum(abs(a - b) for a, b in zip(table, other.quantization[0], strict=True))

    return min(range(100, 0, -1), key=distance)

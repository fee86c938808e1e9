"""One image at a time: open it, bring it to one mode and size, turn it into pixels."""

import random

import numpy as np
from PIL import Image

from corridor.data.source import Rows

GREY_MODES = ("1", "L", "LA")
MODES = (*GREY_MODES, "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
SAMPLED = 64  # images looked at to tell grey from colour


def open_image(rows: Rows, i: int) -> Image.Image:
    """Open image `i` and decode it, or raise a one-line OSError that names it."""
    try:
        image = rows.open(i)
        image.load()
    # Decoders raise almost anything on damaged input; to the user it all means the same.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(
            f"{rows.where(i)}: expected an image, got: {reason}: replace it or take it out"
        ) from error
    if image.mode not in MODES:
        raise OSError(
            f"{rows.where(i)}: expected 8 bits a channel, got mode {image.mode}: convert the image"
        )
    return image


def is_grey(rows: Rows) -> bool:
    """Whether images spread evenly over `rows` are all stored as grey."""
    step = max(1, len(rows) // SAMPLED)
    return all(open_image(rows, i).mode in GREY_MODES for i in range(0, len(rows), step))


def read_image(rows: Rows, i: int, channels: int) -> Image.Image:
    """Image `i` in mode L (one channel) or RGB (three).

    Raises:
        OSError: it cannot be decoded, or has colour where one channel is wanted.
    """
    image = open_image(rows, i)
    if channels == 1 and image.mode not in GREY_MODES:
        raise OSError(
            f"{rows.where(i)}: expected grey like the others, got mode {image.mode}: convert it"
        )
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparency
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def fit(image: Image.Image, size: int, keep: float = 1.0) -> Image.Image:
    """Scale the centred square of `image` to `size` x `size` pixels.

    The square's side is `keep` times the shorter side: scaling the shorter side to `size / keep`
    and cutting out the middle, in one step. Shrinking by a whole factor averages pixels (box),
    anything else is bilinear, antialiased.
    """
    width, height = image.size
    side = keep * min(width, height)
    if width == height == side == size:
        return image
    left, top = (width - side) / 2, (height - side) / 2
    whole = all(value == int(value) for value in (left, top, side)) and side % size == 0
    filtered = Image.Resampling.BOX if whole else Image.Resampling.BILINEAR
    return image.resize((size, size), filtered, box=(left, top, left + side, top + side))


def random_crop(image: Image.Image, size: int, draw: random.Random) -> Image.Image:
    """A random rectangle of `image`, scaled to `size` x `size` pixels.

    Its area is 8% to 100% of the image, its aspect ratio between 3/4 and 4/3 and uniform in the
    logarithm (Szegedy et al., 2015). After ten tries that do not fit it is the centred square.
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


def pixels(image: Image.Image) -> np.ndarray:
    """The image as uint8 [channels, height, width]."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)

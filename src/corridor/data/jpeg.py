"""Which JPEG quality an image was saved with, read off its quantisation table."""

from corridor.data.images import open_image
from corridor.data.source import Rows

# The luminance table that the JPEG standard (ITU-T T.81, Annex K) suggests, row by row.
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


def jpeg_quality(rows: Rows) -> int | None:
    """Quality from 1 to 100 of the first image, None if it is no JPEG.

    The quality is the one whose scaled standard table is closest to the image's own, in the sum
    of absolute differences; for files written by libjpeg the match is exact.
    """
    image = open_image(rows, 0)
    tables = getattr(image, "quantization", None)
    if image.format != "JPEG" or not tables:
        return None
    found = tables[min(tables)]

    def distance(quality: int) -> int:
        expected = scaled_table(quality)
        return sum(abs(a - b) for a, b in zip(found, expected, strict=True))

    return min(range(100, 0, -1), key=distance)


def scaled_table(quality: int) -> list[int]:
    """Libjpeg's luminance table for a quality from 1 to 100.

    Each entry is floor((base * s + 50) / 100), clamped to 1 .. 255, with s = 5000 // quality below
    50 and s = 200 - 2 * quality from there on.

    Example:
        >>> scaled_table(50) == list(LUMINANCE), scaled_table(100)[:3]
        (True, [1, 1, 1])
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [min(max((base * scale + 50) // 100, 1), 255) for base in LUMINANCE]

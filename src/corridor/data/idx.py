"""The idx format of the MNIST family: a magic number, the dimensions, then the bytes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzipped if its name ends in .gz.

    Layout: bytes 0, 0, 0x08, d, then d sizes as big-endian 32-bit integers, then their product
    in bytes.

    Args:
        path: the file.
        dimensions: the d expected: 1 for labels, 3 for images.

    Returns:
        A uint8 array of d dimensions.

    Raises:
        OSError: the file cannot be read, is not of this format, or is too short or too long.
    """
    content = _bytes_of(path)
    if content[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise OSError(
            f"{path}: expected an idx file of unsigned bytes in {dimensions} dimensions, which "
            f"begins with 0000080{dimensions}, got {content[:4].hex() or 'an empty file'}: "
            "copy or download it again"
        )
    start = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(content[4:start].ljust(start - 4, b"\0"), ">u4"))
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise OSError(
            f"{path}: expected {expected} bytes for dimensions {'x'.join(map(str, shape))}, "
            f"got {len(content)}: copy or download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _bytes_of(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path, "rb") as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise OSError(
            f"{path}: expected a whole gzip file, got: {error}: copy or download it again"
        ) from error

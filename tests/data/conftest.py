# pyright: reportAttributeAccessIssue=false
"""Small data sets on disk, made by the tests, and an environment that holds no others."""

import gzip
import io
import struct

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory, monkeypatch):
    """No data set of this machine, and no cache of it, reaches a test by accident."""
    import datasets

    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CORRIDOR_CACHE", str(folder / "corridor"))
    monkeypatch.delenv("CORRIDOR_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_DIRS", str(folder / "no-share"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")


@pytest.fixture
def pictures():
    """Make n random images: uint8 [n, size, size, 3], or [n, size, size] if gray."""

    def make(n, size=8, *, seed=0, gray=False):
        shape = (n, size, size) if gray else (n, size, size, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    return make


def encode(array, form="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def encoded():
    """Encode one array as an image file's bytes."""
    return encode


@pytest.fixture
def write_parquet():
    """Write images, arrays or bytes, and labels as a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(path, images, labels, *, image="img", label="label", form="PNG", **options):
        content = [x if isinstance(x, bytes) else encode(x, form, **options) for x in images]
        column = [{"bytes": x, "path": f"{i}"} for i, x in enumerate(content)]
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({image: column, label: labels}), path, row_group_size=4)

    return write


@pytest.fixture
def parquet_folder(tmp_path, pictures, write_parquet):
    """A folder of 12 training and 6 test images of 8x8 pixels in three classes."""
    folder = tmp_path / "set"
    write_parquet(folder / "train-0.parquet", pictures(12), [0, 1, 2] * 4)
    write_parquet(folder / "test-0.parquet", pictures(6, seed=1), [2, 1, 0] * 2)
    return folder


@pytest.fixture
def write_idx():
    """Write an array of bytes as an idx file, gzipped by its name."""

    def write(path, array):
        head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = head + array.astype(np.uint8).tobytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)

    return write


@pytest.fixture
def image_folder(tmp_path, pictures):
    """PATH/train and PATH/val with classes cat and dog: 6 and 4 images of 8x8 pixels."""
    folder = tmp_path / "pets"
    images = pictures(10)
    for k, (split, count) in enumerate((("train", 3), ("val", 2))):
        for label, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(images[6 * k + label * count + i])
                image.save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture
def failure():
    """Call, expect an error of the kind, and return its message, which must be one line."""

    def check(kind, function, *arguments, **options):
        with pytest.raises(kind) as caught:
            function(*arguments, **options)
        assert type(caught.value) is not Exception
        message = str(caught.value)
        assert message
        assert "\n" not in message
        return message

    return check

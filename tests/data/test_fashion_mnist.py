# pyright: reportAttributeAccessIssue=false
import gzip

import numpy as np
import pytest
import torch

from corridor.data import load
from corridor.data.fashion_mnist import FILES
from corridor.data.idx import read_idx


@pytest.fixture
def clothes(tmp_path, pictures, write_idx):
    """A data folder with 20 and 10 images as idx files, two of them gzipped."""
    folder = tmp_path / "fashion-mnist"
    labels = np.arange(20) % 10
    write_idx(folder / f"{FILES[0]}.gz", pictures(20, size=28, grey=True))
    write_idx(folder / FILES[1], labels)
    write_idx(folder / FILES[2], pictures(10, size=28, grey=True, seed=1))
    write_idx(folder / f"{FILES[3]}.gz", labels[:10])
    return folder


def check(data, pictures):
    images = torch.from_numpy(pictures(20, size=28, grey=True))
    assert torch.equal(data.train.images, images[:, None])
    assert data.test.labels.tolist() == list(range(10))
    assert (data.title, data.channels, data.image_size) == ("Fashion-MNIST", 1, 28)
    assert data.classes[9] == "ankle boot"
    assert len(data.classes) == 10


def test_local_idx_files(clothes, pictures):
    check(load("fashion-mnist", data_dir=clothes.parent), pictures)


def test_the_systems_shared_folders_are_looked_through(clothes, pictures, tmp_path, monkeypatch):
    shared = tmp_path / "share" / "datasets"
    shared.mkdir(parents=True)
    clothes.rename(shared / "fashion-mnist")
    monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path / 'other'}:{tmp_path / 'share'}")
    check(load("fashion-mnist"), pictures)


def test_the_data_folder_comes_before_the_systems(clothes, tmp_path, monkeypatch, write_idx):
    shared = tmp_path / "share" / "datasets" / "fashion-mnist"
    write_idx(shared / FILES[0], np.zeros((1, 28, 28)))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    assert len(load("fashion-mnist", data_dir=clothes.parent).train) == 20


def test_a_missing_file_is_named(clothes, failure):
    (clothes / FILES[1]).unlink()
    message = failure(FileNotFoundError, load, "fashion-mnist", data_dir=clothes.parent)
    assert f"expected {FILES[1]} (or with .gz) in {clothes}" in message


def test_labels_and_images_must_agree_in_number(clothes, write_idx, failure):
    write_idx(clothes / FILES[1], np.zeros(19))
    message = failure(OSError, load, "fashion-mnist", data_dir=clothes.parent)
    assert "expected 20 labels" in message
    assert "got 19" in message


def test_labels_out_of_range(clothes, write_idx, failure):
    write_idx(clothes / FILES[1], np.arange(20))
    message = failure(ValueError, load, "fashion-mnist", data_dir=clothes.parent)
    assert "expected labels from 0 to 9, got 10 in row 10 (10 such)" in message


def test_idx_round_trip(tmp_path, write_idx):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for name in ("x", "x.gz"):
        write_idx(tmp_path / name, array)
        assert np.array_equal(read_idx(tmp_path / name, 3), array)


@pytest.mark.parametrize("change", [-1, 1, 7])
def test_an_idx_file_of_the_wrong_length(tmp_path, write_idx, change, failure):
    path = tmp_path / "images"
    write_idx(path, np.zeros((2, 3, 4)))
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    message = failure(OSError, read_idx, path, 3)
    assert f"expected 40 bytes for dimensions 2x3x4, got {40 + change}" in message


@pytest.mark.parametrize("length", [0, 3, 6, 15])
def test_an_idx_file_that_ends_in_its_head(tmp_path, write_idx, length, failure):
    path = tmp_path / "images"
    write_idx(path, np.zeros((2, 3, 4)))
    path.write_bytes(path.read_bytes()[:length])
    assert str(path) in failure(OSError, read_idx, path, 3)


def test_a_file_that_is_not_idx_or_has_other_dimensions(tmp_path, write_idx, failure):
    path = tmp_path / "file"
    path.write_bytes(b"PAR1 and so on")
    assert "begins with 00000803, got 50415231" in failure(OSError, read_idx, path, 3)
    write_idx(path, np.zeros(5))
    assert "in 3 dimensions" in failure(OSError, read_idx, path, 3)


def test_a_damaged_gzip_file(tmp_path, write_idx, failure):
    path = tmp_path / "images.gz"
    write_idx(path, np.arange(240).reshape(2, 12, 10))
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    for content in (whole[:-9], whole[:20], b"plain text", bytes(middle)):
        path.write_bytes(content)
        assert f"{path}: expected a whole gzip file" in failure(OSError, read_idx, path, 3)
    path.write_bytes(gzip.compress(b""))
    assert "an empty file" in failure(OSError, read_idx, path, 3)

# pyright: reportAttributeAccessIssue=false
"""Sources by name: digits, CIFAR-10, Fashion-MNIST."""

import gzip
import os

import numpy as np
import pytest
import torch

from corridor.data import Loader, load
from corridor.data.sources import IDX_FILES, _read_idx, choose

REAL = os.environ.get("CORRIDOR_DATA")


def write_both(folder, images, write_parquet, **options):
    labels = [i % 10 for i in range(len(images))]
    for split in ("train", "test"):
        write_parquet(folder / f"cifar10/{split}-0.parquet", images, labels, **options)


def test_the_title_tells_jpeg_and_its_quality(tmp_path, pictures, write_parquet):
    images = pictures(10, size=32)
    for k, (options, title) in enumerate(
        (
            ({"form": "PNG"}, "CIFAR-10"),
            ({"form": "JPEG", "quality": 75}, "CIFAR-10 (JPEG q75)"),
            ({"form": "JPEG", "quality": 40}, "CIFAR-10 (JPEG q40)"),
        )
    ):
        write_both(tmp_path / str(k), images, write_parquet, **options)
        data = load("cifar10", data_dir=tmp_path / str(k))
        assert data.title == title
        assert load("cifar10", data_dir=tmp_path / str(k)).title == title  # from the cache
        assert data.classes[0] == "airplane"
        assert data.classes[9] == "truck"
        assert len(data.classes) == 10


def test_the_environment_names_the_data_folder_and_the_argument_wins(
    tmp_path, pictures, write_parquet, monkeypatch
):
    write_both(tmp_path / "a", pictures(10), write_parquet)
    write_both(tmp_path / "b", pictures(20), write_parquet)
    monkeypatch.setenv("CORRIDOR_DATA", str(tmp_path / "a"))
    assert len(load("cifar10").train) == 10
    assert len(load("cifar10", data_dir=tmp_path / "b").train) == 20


def test_a_label_of_ten_is_refused(tmp_path, pictures, write_parquet, failure):
    write_both(tmp_path, pictures(2), write_parquet)
    write_parquet(tmp_path / "cifar10/train-0.parquet", pictures(2), [3, 10])
    message = failure(ValueError, load, "cifar10", data_dir=tmp_path)
    assert "cifar10 (train) must have labels from 0 to 9, got 10 in row 1" in message


def test_an_empty_local_folder_is_not_passed_over(tmp_path, failure):
    (tmp_path / "cifar10").mkdir()
    message = failure(FileNotFoundError, load, "cifar10", data_dir=tmp_path)
    assert "must have train*.parquet, found none" in message


@pytest.mark.slow
@pytest.mark.skipif(
    REAL is None or not os.path.isdir(os.path.join(REAL, "cifar10")),
    reason="CORRIDOR_DATA names no folder with cifar10/*.parquet",
)
def test_the_real_images():
    assert REAL is not None
    data = load("cifar10", data_dir=REAL, image_size=16)
    assert (len(data.train), len(data.test)) == (50_000, 10_000)
    assert data.train.labels.bincount().tolist() == [5_000] * 10
    assert data.test.labels.bincount().tolist() == [1_000] * 10
    assert data.title.startswith("CIFAR-10")
    # The published statistics of the original 32 x 32 pixels; averaging blocks keeps the mean.
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=3e-3)
    loader = Loader(data, batch_size=5_000, device="cpu", drop_last=False)
    batches = torch.cat([images for images, _ in loader.train(0)])
    assert batches.mean((0, 2, 3)) == pytest.approx(torch.zeros(3), abs=1e-3)
    assert batches.std((0, 2, 3)) == pytest.approx(torch.ones(3), abs=1e-3)


@pytest.fixture(scope="module")
def original():
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def as_rows(split):
    flat = split.images.flatten(1).long()
    return {(*row, label) for row, label in zip(flat.tolist(), split.labels.tolist(), strict=True)}


def test_every_digit_is_in_one_split_with_its_levels_and_label(original):
    data = load("digits")
    images, target = original
    expected = np.rint(images * 255 / 16).astype(int)
    rows = {(*row, label) for row, label in zip(expected.tolist(), target.tolist(), strict=True)}
    train, test = as_rows(data.train), as_rows(data.test)
    assert train | test == rows
    assert not train & test
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.train.images.shape[1:] == (data.channels, data.image_size, data.image_size)
    assert data.train.images.dtype == torch.uint8
    assert (data.channels, data.image_size, data.title) == (1, 8, "Digits")
    assert data.classes == tuple("0123456789")
    assert not data.flip


def test_the_split_is_stratified_and_fixed(original):
    data = load("digits")
    whole = torch.bincount(torch.from_numpy(original[1]))
    share = data.test.labels.bincount() - whole * 360 / 1797
    assert share.abs().max() < 1
    assert data.test.labels[:12].tolist() == load("digits").test.labels[:12].tolist()


def test_mean_and_std_are_those_of_the_training_images():
    data = load("digits")
    pixels = data.train.images.double().numpy() / 255
    assert data.mean == pytest.approx((pixels.mean(),), rel=1e-12)
    assert data.std == pytest.approx((pixels.std(),), rel=1e-12)


def test_limit_keeps_a_balanced_beginning_and_the_whole_test_set():
    data = load("digits")
    part = load("digits", limit=95)
    counts = part.train.labels.bincount(minlength=10)
    assert counts.tolist() == [10] * 5 + [9] * 5
    assert len(part.test) == 360
    assert (part.mean, part.std) == (data.mean, data.std)
    kept = choose(data.train.labels, 95)
    assert torch.equal(part.train.images, data.train.images[kept])
    for digit in range(10):
        expected = (data.train.labels == digit).nonzero().flatten()[: counts[digit]]
        assert torch.equal(kept[data.train.labels[kept] == digit], expected)
    assert len(load("digits", limit=10_000).train) == 1437


def test_balanced_goes_on_with_the_classes_that_have_images_left():
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 2, 2])
    assert choose(labels, 6).tolist() == [0, 1, 2, 5, 6, 7]


def test_image_size_resizes():
    small, large = load("digits", image_size=4), load("digits", image_size=16)
    whole = load("digits").train.images.double()
    blocks = whole.view(-1, 1, 4, 2, 4, 2).mean((3, 5))
    assert (small.train.images - blocks).abs().max() <= 1  # rounded once in each direction
    assert large.train.images.shape == (1437, 1, 16, 16)


@pytest.fixture
def clothes(tmp_path, pictures, write_idx):
    """A data folder with 20 and 10 images as idx files, two of them gzipped."""
    folder = tmp_path / "fashion-mnist"
    labels = np.arange(20) % 10
    write_idx(folder / f"{IDX_FILES[0]}.gz", pictures(20, size=28, gray=True))
    write_idx(folder / IDX_FILES[1], labels)
    write_idx(folder / IDX_FILES[2], pictures(10, size=28, gray=True, seed=1))
    write_idx(folder / f"{IDX_FILES[3]}.gz", labels[:10])
    return folder


def check(data, pictures):
    images = torch.from_numpy(pictures(20, size=28, gray=True))
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
    write_idx(shared / IDX_FILES[0], np.zeros((1, 28, 28)))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    assert len(load("fashion-mnist", data_dir=clothes.parent).train) == 20


def test_a_missing_file_is_named(clothes, failure):
    (clothes / IDX_FILES[1]).unlink()
    message = failure(FileNotFoundError, load, "fashion-mnist", data_dir=clothes.parent)
    assert f"{clothes} must have {IDX_FILES[1]} or" in message


def test_labels_and_images_must_agree_in_number(clothes, write_idx, failure):
    write_idx(clothes / IDX_FILES[1], np.zeros(19))
    message = failure(OSError, load, "fashion-mnist", data_dir=clothes.parent)
    assert "must have 20 labels" in message
    assert "got 19" in message


def test_labels_out_of_range(clothes, write_idx, failure):
    write_idx(clothes / IDX_FILES[1], np.arange(20))
    message = failure(ValueError, load, "fashion-mnist", data_dir=clothes.parent)
    assert "must have labels from 0 to 9, got 10 in row 10 (10 wrong in all)" in message


def test_idx_round_trip(tmp_path, write_idx):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for name in ("x", "x.gz"):
        write_idx(tmp_path / name, array)
        assert np.array_equal(_read_idx(tmp_path / name, 3), array)


@pytest.mark.parametrize("change", [-1, 1, 7])
def test_an_idx_file_of_the_wrong_length(tmp_path, write_idx, change, failure):
    path = tmp_path / "images"
    write_idx(path, np.zeros((2, 3, 4)))
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    message = failure(OSError, _read_idx, path, 3)
    assert f"{path} must be whole idx (bytes in 3 dimensions) data, got: cannot reshape" in message


@pytest.mark.parametrize("length", [0, 3, 6, 15])
def test_an_idx_file_that_ends_in_its_head(tmp_path, write_idx, length, failure):
    path = tmp_path / "images"
    write_idx(path, np.zeros((2, 3, 4)))
    path.write_bytes(path.read_bytes()[:length])
    assert str(path) in failure(OSError, _read_idx, path, 3)


def test_a_file_that_is_not_idx_or_has_other_dimensions(tmp_path, write_idx, failure):
    path = tmp_path / "file"
    path.write_bytes(b"PAR1 and so on")
    assert "got: a head of 50415231" in failure(OSError, _read_idx, path, 3)
    write_idx(path, np.zeros(5))
    assert "in 3 dimensions" in failure(OSError, _read_idx, path, 3)


def test_a_damaged_gzip_file(tmp_path, write_idx, failure):
    path = tmp_path / "images.gz"
    write_idx(path, np.arange(240).reshape(2, 12, 10))
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    for content in (whole[:-9], whole[:20], b"plain text", bytes(middle)):
        path.write_bytes(content)
        assert f"{path} must be whole idx" in failure(OSError, _read_idx, path, 3)
    path.write_bytes(gzip.compress(b""))
    assert "got: a head of no bytes" in failure(OSError, _read_idx, path, 3)

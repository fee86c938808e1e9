import os

import pytest
import torch

from corridor.data import Loader, load

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
    assert "cifar10 (train): expected labels from 0 to 9, got 10 in row 1" in message


def test_an_empty_local_folder_is_not_passed_over(tmp_path, failure):
    (tmp_path / "cifar10").mkdir()
    message = failure(FileNotFoundError, load, "cifar10", data_dir=tmp_path)
    assert "expected train*.parquet, found none" in message


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

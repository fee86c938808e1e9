# pyright: reportAttributeAccessIssue=false
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from corridor.data import StreamSplit, load
from corridor.data.stream import Batches


def test_images_in_the_order_of_class_and_file_name(image_folder, pictures):
    data = load(f"imagefolder:{image_folder}")
    images = torch.from_numpy(pictures(10).transpose(0, 3, 1, 2).copy())
    assert torch.equal(data.train.images, images[:6])
    assert torch.equal(data.test.images, images[6:])
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert (data.classes, data.title) == (("cat", "dog"), "pets")


def test_the_second_folder_may_be_called_test(image_folder):
    (image_folder / "val").rename(image_folder / "test")
    assert len(load(f"imagefolder:{image_folder}").test) == 4


@pytest.mark.filterwarnings("error")
def test_hidden_files_are_passed_over(image_folder):
    (image_folder / "train" / "cat" / ".DS_Store.png").write_text("x")
    (image_folder / "train" / ".hidden").mkdir()
    assert len(load(f"imagefolder:{image_folder}").train) == 6


def test_a_single_warning_counts_all_files_that_are_not_read(image_folder):
    cat = image_folder / "train" / "cat"
    image = (cat / "0.png").read_bytes()
    (cat / "deeper").mkdir()
    others = cat / "deeper" / "0.png", cat / "plain", image_folder / "val" / "dog" / "notes.txt"
    for path in (*others, image_folder / "train" / "stray.png"):
        path.write_bytes(image)
    with pytest.warns(UserWarning, match=r"^4 files or subfolders of .*pets are skipped") as said:
        assert len(load(f"imagefolder:{image_folder}").train) == 6
    assert len(said) == 1
    assert said[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_jfif_is_jpeg(image_folder, pictures):
    Image.fromarray(pictures(1)[0]).save(image_folder / "train" / "cat" / "9.jfif", "JPEG")
    assert len(load(f"imagefolder:{image_folder}").train) == 7


def test_val_comes_before_test(image_folder):
    shutil.copytree(image_folder / "val", image_folder / "test")
    (image_folder / "test" / "cat" / "0.png").unlink()
    assert len(load(f"imagefolder:{image_folder}").test) == 4


def test_no_folder_to_test_on(image_folder, failure):
    (image_folder / "val").rename(image_folder / "holdout")
    message = failure(FileNotFoundError, load, f"imagefolder:{image_folder}")
    assert "must have train/CLASS/* and val/CLASS/* (or test), found none" in message


def test_no_images(image_folder, failure):
    for path in (image_folder / "val").rglob("*.png"):
        path.unlink()
    message = failure(FileNotFoundError, load, f"imagefolder:{image_folder}")
    assert "val must have images" in message


def test_one_class_is_refused(image_folder, failure):
    for split in ("train", "val"):
        for path in (image_folder / split / "dog").iterdir():
            path.unlink()
        (image_folder / split / "dog").rmdir()
    message = failure(ValueError, load, f"imagefolder:{image_folder}")
    assert "must have at least 2 classes, got only cat" in message


def test_a_class_without_training_images_is_named_each_time(image_folder):
    (image_folder / "train" / "emu").mkdir()
    for _ in range(2):  # decoded, and from the cache
        with pytest.warns(
            UserWarning, match="1 of 3 classes of .* no training images, such as emu"
        ):
            assert len(load(f"imagefolder:{image_folder}").classes) == 3
    with pytest.warns(UserWarning, match="9 of 10 classes of digits have no .* such as 1"):
        load("digits", limit=1)


def test_a_class_only_among_the_test_images(image_folder, failure):
    (image_folder / "val" / "emu").mkdir()
    assert "got also emu" in failure(ValueError, load, f"imagefolder:{image_folder}")


def test_an_unreadable_image_is_named(image_folder, failure):
    path = image_folder / "val" / "dog" / "1.png"
    content = path.read_bytes()
    for damaged in (b"", b"text", content[:60], content[:-40]):
        path.write_bytes(damaged)
        message = failure(OSError, load, f"imagefolder:{image_folder}")
        assert f"{path} must be an image" in message


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "L"])
def test_other_modes_become_rgb(image_folder, pictures, mode):
    path = image_folder / "train" / "cat" / "1.png"
    image = Image.fromarray(pictures(1)[0]).convert(mode)
    path.unlink()
    image.save(path.with_suffix(".tif"))
    data = load(f"imagefolder:{image_folder}")
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(data.train.images[1].numpy(), expected)


def test_imagenet_says_where_to_put_it(tmp_path, failure):
    for options in ({}, {"data_dir": tmp_path}):
        message = failure(FileNotFoundError, load, "imagenet", **options)
        assert "imagenet must have train/CLASS/* and val/CLASS/*" in message
        assert "CORRIDOR_DATA" in message


def test_imagenet_is_an_image_folder_of_224_pixels(image_folder, monkeypatch):
    image_folder.rename(image_folder.parent / "imagenet")
    data = load("imagenet", data_dir=image_folder.parent)
    assert (data.title, data.image_size, data.channels) == ("ImageNet", 224, 3)
    assert data.mean == (0.485, 0.456, 0.406)
    assert load("imagenet", data_dir=image_folder.parent, image_size=32).image_size == 32
    monkeypatch.setattr("corridor.data.assemble.MEMORY_LIMIT", 10 * 3 * 224**2 - 1)
    streamed = load("imagenet", data_dir=image_folder.parent, limit=4)
    assert isinstance(streamed.train, StreamSplit)
    assert streamed.train.labels.tolist() == [0, 0, 1, 1]
    assert len(streamed.test) == 4


@pytest.mark.parametrize("head", ["imagefolder", "parquet"])
def test_a_file_in_place_of_the_folder(image_folder, head, failure):
    path = image_folder / "train" / "cat" / "0.png"
    message = failure(NotADirectoryError, load, f"{head}:{path}")
    assert f"{path} must be a folder with train" in message
    assert message.endswith("got a file; give its folder")


def test_exchanged_class_folders_are_read_again(image_folder):
    train = image_folder / "train"
    for path in train.rglob("*.png"):
        Image.new("RGB", (8, 8), (10 if path.parent.name == "cat" else 200,) * 3).save(path)
    for path in train.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert load(f"imagefolder:{image_folder}").train.images[:, 0, 0, 0].tolist() == 3 * [10] + 3 * [
        200
    ]
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (train / old).rename(train / new)
    data = load(f"imagefolder:{image_folder}")
    assert data.train.images[:, 0, 0, 0].tolist() == 3 * [200] + 3 * [10]
    (train / "emu").mkdir()
    with pytest.warns(UserWarning, match="no training images"):
        assert load(f"imagefolder:{image_folder}").classes == ("cat", "dog", "emu")


def test_imagenet_tests_on_the_central_seven_eighths(image_folder, monkeypatch):
    for path in image_folder.rglob("*.png"):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[4:60, 4:60] = 100  # the centered square of 7/8 of the side
        Image.fromarray(pixels).save(path)
    image_folder.rename(image_folder.parent / "imagenet")
    whole = load("imagenet", data_dir=image_folder.parent, image_size=8)
    assert (whole.test.images == 100).all()
    assert (whole.train.images < 100).any()
    monkeypatch.setattr("corridor.data.assemble.MEMORY_LIMIT", 0)
    data = load("imagenet", data_dir=image_folder.parent, image_size=8)
    images, _ = Batches(data.test, None, flip=False).read(range(4))
    assert torch.equal(images, whole.test.images)

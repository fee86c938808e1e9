# pyright: reportAttributeAccessIssue=false
import numpy as np
import pytest
import torch
from PIL import Image

from corridor.data import StreamSplit, load


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


def test_files_that_are_no_images_and_hidden_ones_are_passed_over(image_folder):
    (image_folder / "train" / "cat" / "notes.txt").write_text("x")
    (image_folder / "train" / "cat" / ".DS_Store.png").write_text("x")
    (image_folder / "train" / ".hidden").mkdir()
    assert len(load(f"imagefolder:{image_folder}").train) == 6


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

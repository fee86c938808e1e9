# pyright: reportAttributeAccessIssue=false
import dataclasses
import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image

from corridor.data import Data, Loader, StreamSplit, load, stream
from corridor.data.types import Rows

SIZE = 8
EPS = torch.finfo(torch.float32).eps


class Spied(Rows):
    """Rows that note which images were opened."""

    def open(self, i):
        opened.append(i)
        return super().open(i)


opened: list[int] = []


@pytest.fixture
def data(pictures):
    opened.clear()
    rows = Spied(pictures(20, size=16), torch.arange(20) % 3, "spied")
    kept = torch.tensor([i for i in range(20) if i != 7])
    train = StreamSplit(rows, kept, 3, SIZE)
    test = StreamSplit(rows, torch.arange(5), 3, SIZE)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)
    return Data("spied", "Spied", train, test, ("a", "b", "c"), 3, SIZE, mean, std)


def equal(a, b):
    return len(a) == len(b) and all(
        torch.equal(left[0], right[0]) and torch.equal(left[1], right[1])
        for left, right in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("augment", [False, True])
def test_workers_change_nothing(data, augment):
    options = {"batch_size": 4, "device": "cpu", "augment": augment, "drop_last": False}
    here = Loader(data, **options)
    there = Loader(data, workers=2, **options)
    assert equal(list(here.train(1)), list(there.train(1)))
    assert equal(list(here.test(2)), list(there.test(2)))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_out_a_batch_in_pieces(data, monkeypatch, workers):
    options = {"batch_size": 8, "device": "cpu", "augment": True, "drop_last": False}
    whole = list(Loader(data, **options).train(1))
    monkeypatch.setattr(stream, "PIECE", 3)  # 8 = 3 + 3 + 2, and the last batch is 3
    shared = Loader(data, workers=workers, **options)
    assert equal(list(shared.train(1)), whole)
    assert equal(list(shared.train(1, 1)), whole[1:])


def test_the_end_of_a_long_epoch_reads_its_own_images_alone(data):
    many = dataclasses.replace(data.train, indices=torch.arange(20).repeat(5000))
    options = {"batch_size": 16, "device": "cpu"}
    long = dataclasses.replace(data, train=many)
    last = Loader(long, **options).steps_per_epoch - 1
    here = list(Loader(long, **options).train(3, last))
    assert len(opened) == 16
    assert equal(here, list(Loader(long, workers=2, **options).train(3, last)))


@pytest.mark.parametrize("augment", [False, True])
def test_an_epoch_resumes_anywhere_without_reading_what_came_before(data, augment):
    options = {"batch_size": 4, "device": "cpu", "augment": augment, "drop_last": False, "seed": 3}
    whole = list(Loader(data, **options).train(2))
    everything = list(opened)
    for start in range(len(whole) + 1):
        opened.clear()
        assert equal(list(Loader(data, **options).train(2, start)), whole[start:])
        assert opened == everything[4 * start :]


def test_the_same_images_in_the_same_order_as_in_memory(data):
    loader = Loader(data, batch_size=4, device="cpu", drop_last=False)
    labels = torch.cat([labels for _, labels in loader.train(0)])
    assert sorted(opened) == [i for i in range(20) if i != 7]
    assert torch.equal(labels, torch.tensor(opened) % 3)
    assert not equal(list(loader.train(0)), list(loader.train(1)))
    assert [len(labels) for _, labels in loader.train(0)] == [4, 4, 4, 4, 3]
    assert Loader(data, batch_size=4, device="cpu").steps_per_epoch == 4
    assert len(list(Loader(data, batch_size=4, device="cpu").train(0))) == 4


def test_augmentation_of_an_image_does_not_depend_on_its_batch(data):
    def by_number(size):
        opened.clear()
        loader = Loader(data, batch_size=size, device="cpu", augment=True, drop_last=False)
        images = torch.cat([images for images, _ in loader.train(0)])
        return dict(zip(opened, images, strict=True))

    small, large = by_number(3), by_number(19)
    assert small.keys() == large.keys()
    assert all(torch.equal(small[i], large[i]) for i in small)


def test_half_of_the_augmented_images_are_mirrored_unless_that_changes_their_class():
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (200, 64, 64))
    rows = Rows(ramp, torch.zeros(200, dtype=torch.int64), "ramp")
    split = StreamSplit(rows, torch.arange(200), 1, SIZE)
    for flip, low, high in ((True, 0.35, 0.65), (False, 0.0, 0.0)):
        data = Data("r", "r", split, split, ("a",), 1, SIZE, (0.0,), (1.0,), flip)
        ((images, _),) = Loader(data, batch_size=200, device="cpu", augment=True).train(0)
        mirrored = (images[:, 0, 4, -1] < images[:, 0, 4, 0]).float().mean()
        assert low <= float(mirrored) <= high


def test_without_augmentation_the_center_is_scaled_and_normalized(pictures):
    images = np.zeros((1, 64, 64, 3), np.uint8)
    images[:, 4:60, 4:60] = 100  # the center square of 7/8 of the side
    rows = Rows(images, torch.zeros(1, dtype=torch.int64), "frame")
    split = StreamSplit(rows, torch.arange(1), 3, SIZE, keep=7 / 8)
    data = Data("f", "f", split, split, ("a",), 3, SIZE, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    loader = Loader(data, batch_size=1, device="cpu", channels_last=True)
    for found, _ in (*loader.train(0), *loader.test()):
        expected = (100 / 255 - torch.tensor(data.mean)) / torch.tensor(data.std)
        assert (found - expected.view(1, 3, 1, 1)).abs().max() < 8 * EPS * expected.abs().max()
        assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_global_generator_is_left_alone(data, workers):
    state = torch.get_rng_state()
    loader = Loader(data, batch_size=4, device="cpu", augment=True, workers=workers)
    list(loader.train(0))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def streamed(image_folder, monkeypatch):
    """The image folder as if it were too large for memory."""
    monkeypatch.setattr("corridor.data.assemble.MEMORY_LIMIT", 10 * 3 * 8 * 8 - 1)
    return f"imagefolder:{image_folder}"


def test_a_set_that_does_not_fit_streams(streamed, monkeypatch):
    data = load(streamed, image_size=8)
    assert isinstance(data.train, StreamSplit)
    assert (len(data.train), len(data.test), data.channels) == (6, 4, 3)
    batches = list(Loader(data, batch_size=6, device="cpu").train(0))
    assert batches[0][0].mean((0, 2, 3)) == pytest.approx(torch.zeros(3), abs=6 * 64 * 2 * EPS)
    assert batches[0][0].std((0, 2, 3)) == pytest.approx(torch.ones(3), rel=0.01)
    assert load(streamed, image_size=8, limit=3).train.labels.tolist() == [0, 0, 1]
    monkeypatch.setattr("corridor.data.assemble.MEMORY_LIMIT", 10 * 3 * 8 * 8)
    assert load(streamed, image_size=8).train.images.shape == (6, 3, 8, 8)


def test_a_set_that_does_not_fit_needs_a_size(streamed, failure):
    message = failure(ValueError, load, streamed)
    assert "give it (the first image is 8 pixels wide)" in message


def test_parquet_streams_too(parquet_folder, monkeypatch):
    monkeypatch.setattr("corridor.data.assemble.MEMORY_LIMIT", 0)
    data = load(f"parquet:{parquet_folder}", image_size=4)
    loader = Loader(data, batch_size=4, device="cpu", workers=1)
    assert equal(list(loader.train(0)), list(Loader(data, batch_size=4, device="cpu").train(0)))
    assert data.test.labels.tolist() == [2, 1, 0] * 2


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_line_from_a_worker_too(
    streamed, image_folder, workers, failure
):
    data = load(streamed, image_size=8)
    path = image_folder / "train" / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:50])
    loader = Loader(data, batch_size=2, device="cpu", workers=workers)
    before = set(multiprocessing.active_children())
    message = failure(OSError, lambda: list(loader.train(0)))
    assert message.startswith(f"{path} must be an image, got: ")
    # Any that were left, this process would wait for at its end.
    assert set(multiprocessing.active_children()) <= before
    path.unlink()
    assert str(path) in failure(OSError, lambda: list(loader.train(0)))


def test_gray_among_color_is_read_as_color(streamed, image_folder):
    Image.new("L", (8, 8), 9).save(image_folder / "train" / "cat" / "0.png")
    data = load(streamed, image_size=8)
    ((images, _),) = Loader(data, batch_size=6, device="cpu").train(0)
    assert images.shape == (6, 3, 8, 8)


@pytest.mark.parametrize("side", [8, 4, 12])
def test_without_augmentation_the_pixels_are_those_in_memory(image_folder, monkeypatch, side):
    whole = load(f"imagefolder:{image_folder}", image_size=side)
    monkeypatch.setattr("corridor.data.assemble.MEMORY_LIMIT", 0)
    streamed = load(f"imagefolder:{image_folder}", image_size=side)
    for split, here in ((streamed.train, whole.train), (streamed.test, whole.test)):
        images, labels = stream.Batches(split, None, flip=False).read(range(len(split)))
        assert torch.equal(images, here.images)
        assert torch.equal(labels, here.labels)
    assert streamed.mean == pytest.approx(whole.mean, rel=1e-12)
    assert streamed.std == pytest.approx(whole.std, rel=1e-12)

# pyright: reportAttributeAccessIssue=false
import numpy as np
import pytest
import torch

from corridor.data import load
from corridor.data.source import balanced


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
    kept = balanced(data.train.labels, 95)
    assert torch.equal(part.train.images, data.train.images[kept])
    for digit in range(10):
        expected = (data.train.labels == digit).nonzero().flatten()[: counts[digit]]
        assert torch.equal(kept[data.train.labels[kept] == digit], expected)
    assert len(load("digits", limit=10_000).train) == 1437


def test_balanced_goes_on_with_the_classes_that_have_images_left():
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 2, 2])
    assert balanced(labels, 6).tolist() == [0, 1, 2, 5, 6, 7]


def test_image_size_resizes():
    small, large = load("digits", image_size=4), load("digits", image_size=16)
    whole = load("digits").train.images.double()
    blocks = whole.view(-1, 1, 4, 2, 4, 2).mean((3, 5))
    assert (small.train.images - blocks).abs().max() <= 1  # rounded once in each direction
    assert large.train.images.shape == (1437, 1, 16, 16)

# pyright: reportAttributeAccessIssue=false
import pytest
import torch
from torch.nn.functional import pad

from corridor.data import Data, Loader, TensorSplit, load
from corridor.data.rng import crop_and_flip

EPS = torch.finfo(torch.float32).eps


def numbered(n=23, size=8, channels=3, flip=True):
    """Images whose label is their number, modulo 7, and whose first pixel is their number."""
    images = torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(n)
    split = TensorSplit(images, torch.arange(n) % 7)
    test = TensorSplit(images.flip(0), split.labels.flip(0))
    mean, std = (0.1, 0.2, 0.3)[:channels], (0.5, 0.25, 2.0)[:channels]
    classes = tuple("abcdefg")
    return Data("numbered", "Numbered", split, test, classes, channels, size, mean, std, flip)


def numbers(loader, batch):
    images = batch[0][:, 0, 0, 0] * loader.data.std[0] + loader.data.mean[0]
    return (images * 255).round().long()


def equal(a, b):
    return len(a) == len(b) and all(
        torch.equal(left[0], right[0]) and torch.equal(left[1], right[1])
        for left, right in zip(a, b, strict=True)
    )


def test_a_batch_is_the_normalized_images_with_their_labels():
    data = numbered()
    loader = Loader(data, batch_size=10, device="cpu")
    mean = torch.tensor(data.mean).double().view(3, 1, 1)
    std = torch.tensor(data.std).double().view(3, 1, 1)
    for images, labels in loader.train(0):
        chosen = numbers(loader, (images, labels))
        expected = (data.train.images[chosen].double() / 255 - mean) / std
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        # Scale and shift are rounded, then the product and the sum.
        assert (images - expected).abs().max() < 8 * EPS * expected.abs().max()
        assert torch.equal(labels, data.train.labels[chosen])


@pytest.mark.parametrize(("drop_last", "steps"), [(True, 2), (False, 3)])
def test_an_epoch_has_each_image_once(drop_last, steps):
    loader = Loader(numbered(), batch_size=10, device="cpu", drop_last=drop_last)
    assert loader.steps_per_epoch == steps
    batches = list(loader.train(0))
    assert [len(labels) for _, labels in batches] == [10, 10, 3][:steps]
    seen = torch.cat([numbers(loader, batch) for batch in batches]).tolist()
    assert len(set(seen)) == len(seen)
    assert seen != sorted(seen)


@pytest.mark.parametrize("size", [23, 24, 1000])
def test_a_batch_as_large_as_the_set_or_larger_is_the_whole_set(size):
    loader = Loader(numbered(), batch_size=size, device="cpu")
    assert (loader.batch_size, loader.steps_per_epoch) == (23, 1)
    ((images, _),) = loader.train(3)
    assert len(images) == 23


@pytest.mark.parametrize("augment", [False, True])
def test_batches_are_functions_of_seed_epoch_and_index_alone(augment):
    options = {"batch_size": 5, "device": "cpu", "augment": augment, "drop_last": False}
    data = numbered()
    whole = list(Loader(data, seed=4, **options).train(2))
    other = Loader(data, seed=4, **options)
    list(other.train(0))
    list(other.test())
    for start in range(6):
        assert equal(list(other.train(2, start)), whole[start:])
    assert not equal(whole, list(other.train(1)))
    assert not equal(whole, list(Loader(data, seed=5, **options).train(2)))


def test_torchs_global_generator_is_left_alone():
    loader = Loader(numbered(), batch_size=5, device="cpu", augment=True)
    state = torch.get_rng_state()
    list(loader.train(0))
    list(loader.test())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("start", [-1, 3])
def test_a_start_beyond_the_epoch_is_refused_at_once(start):
    with pytest.raises(ValueError, match=f"from 0 to 2, got {start}"):
        Loader(numbered(), batch_size=10, device="cpu").train(0, start)


def test_the_test_images_come_in_order_and_plain():
    data = numbered()
    loader = Loader(data, batch_size=5, device="cpu", augment=True)
    for size, lengths in ((None, [23]), (10, [10, 10, 3])):
        batches = list(loader.test(size))
        assert [len(labels) for _, labels in batches] == lengths
        assert torch.cat([numbers(loader, b) for b in batches]).tolist() == [*range(22, -1, -1)]
        assert torch.equal(torch.cat([labels for _, labels in batches]), data.test.labels)


@pytest.mark.parametrize("augment", [False, True])
def test_channels_last_changes_the_layout_only(augment):
    options = {"batch_size": 5, "device": "cpu", "augment": augment}
    data = numbered()
    plain, other = Loader(data, **options), Loader(data, channels_last=True, **options)
    assert equal(list(plain.train(0)), list(other.train(0)))
    for images, _ in (*other.train(0), *other.test()):
        assert images.is_contiguous(memory_format=torch.channels_last)
    for images, _ in (*plain.train(0), *plain.test()):
        assert images.is_contiguous()


@pytest.mark.parametrize(("key", "value"), [("batch_size", 0), ("batch_size", -2), ("workers", -1)])
def test_wrong_numbers_are_refused(key, value):
    with pytest.raises(ValueError, match=f"{key} must be at least .* got {value}"):
        Loader(numbered(), **{"batch_size": 5, "device": "cpu", key: value})
    with pytest.raises(ValueError, match="batch_size"):
        Loader(numbered(), batch_size=5, device="cpu").test(0)


def slow_crop_and_flip(images, generator, flip):
    """Pad by reflection, cut at a random place, mirror: image by image."""
    b, _, size, _ = images.shape
    by = size // 8
    shifts = torch.randint(-by, by + 1, (2, b, 1), generator=generator)[:, :, 0] + by
    mirrored = torch.randint(0, 2, (b, 1), generator=generator) if flip else torch.zeros(b, 1)
    results = []
    for i in range(b):
        padded = images[i : i + 1].float()
        if by:
            padded = pad(padded, (by, by, by, by), mode="reflect")
        top, left = int(shifts[0, i]), int(shifts[1, i])
        crop = padded[0, :, top : top + size, left : left + size]
        results.append(crop.flip(2) if mirrored[i] else crop)
    return torch.stack(results).to(torch.uint8)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("size", "channels"), [(4, 1), (8, 1), (16, 3), (32, 3), (33, 2)])
def test_augmentation_is_pad_crop_and_mirror(size, channels, flip):
    images = torch.randint(0, 256, (40, channels, size, size), dtype=torch.uint8)
    fast = crop_and_flip(images, torch.Generator().manual_seed(1), flip=flip)
    slow = slow_crop_and_flip(images, torch.Generator().manual_seed(1), flip)
    assert torch.equal(fast, slow)


def test_half_of_the_images_are_mirrored_and_every_shift_occurs():
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    many = crop_and_flip(image.expand(4000, 1, 16, 16), torch.Generator().manual_seed(0), flip=True)
    mirrored = many[:, 0, 8, 9] < many[:, 0, 8, 8]
    assert 0.45 < mirrored.float().mean() < 0.55
    shown = [int(x) for x in many[~mirrored][:, 0, 8, 8].unique()]
    expected = [16 * (8 + dy) + 8 + dx for dy in range(-2, 3) for dx in range(-2, 3)]
    assert shown == expected


def test_augmentation_mirrors_only_where_the_data_set_allows_it():
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(200, 1, 8, 8)
    split = TensorSplit(image, torch.zeros(200, dtype=torch.int64))
    for flip in (False, True):
        data = Data("x", "x", split, split, ("a",), 1, 8, (0.0,), (1.0,), flip)
        loader = Loader(data, batch_size=200, device="cpu", augment=True)
        ((images, _),) = loader.train(0)
        assert bool((images[:, 0, 4, 4] < images[:, 0, 4, 3]).any()) == flip


def test_batches_of_an_epoch_are_augmented_differently():
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(100, 1, 8, 8)
    split = TensorSplit(image, torch.zeros(100, dtype=torch.int64))
    data = Data("x", "x", split, split, ("a",), 1, 8, (0.0,), (1.0,))
    first, second = Loader(data, batch_size=50, device="cpu", augment=True).train(0)
    assert not torch.equal(first[0], second[0])


def test_digits_through_the_loader():
    loader = Loader(load("digits"), batch_size=128, device="cpu", drop_last=False, augment=True)
    images = torch.cat([images for images, _ in loader.train(0)])
    plain = torch.cat([images for images, _ in loader.test()])
    assert images.shape == (1437, 1, 8, 8)
    assert plain.shape == (360, 1, 8, 8)
    assert abs(float(plain.mean())) < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_batches():
    data = numbered()
    options = {"batch_size": 5, "augment": True, "drop_last": False}
    here = list(Loader(data, device="cpu", **options).train(1))
    there = list(Loader(data, device="cuda", **options).train(1))
    assert all(images.is_cuda and labels.is_cuda for images, labels in there)
    for (a, x), (b, y) in zip(here, there, strict=True):
        assert (a - b.cpu()).abs().max() < 8 * EPS * a.abs().max()
        assert torch.equal(x, y.cpu())


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("augment", [False, True])
def test_the_parts_of_all_ranks_are_the_batch_of_one_process(ranks, augment):
    digits = load("digits", limit=500)

    def loader(rank, ranks):
        return Loader(
            digits,
            batch_size=48,
            device="cpu",
            augment=augment,
            drop_last=False,
            rank=rank,
            ranks=ranks,
        )

    whole = loader(0, 1)
    parts = zip(*(loader(rank, ranks).train(1, start=2) for rank in range(ranks)), strict=True)
    for index, (one, part) in enumerate(zip(whole.train(1, start=2), parts, strict=True), 2):
        for tensor, shares in zip(one, zip(*part, strict=True), strict=True):
            assert torch.equal(torch.cat(shares), tensor)
        sizes = [len(labels) for _, labels in part]
        assert sum(sizes) == whole.size(index)
        assert max(sizes) - min(sizes) <= 1
    tests = [list(loader(rank, ranks).test(50)) for rank in range(ranks)]
    assert len({len(batches) for batches in tests}) == 1
    images = torch.cat([images for batches in tests for images, _ in batches])
    assert torch.equal(images, torch.cat([images for images, _ in whole.test()]))

# pyright: reportAttributeAccessIssue=false
"""The hub cannot be reached in a test: a replacement of `load_dataset` gives what it would give."""

import datasets
import pytest
import torch

from corridor.data import cache, load


def table(images, labels, image="img", label="label", names=("x", "y")):
    features = datasets.Features(
        {image: datasets.Image(), label: datasets.ClassLabel(names=list(names))}
    )
    return datasets.Dataset.from_dict({image: list(images), label: labels}, features=features)


@pytest.fixture
def on_the_hub(monkeypatch):
    """Put tables on the hub under a name; list what was asked for."""
    held, asked = {}, []

    def load_dataset(path, **options):
        asked.append(path)
        if path not in held:
            raise ConnectionError(f"Couldn't reach '{path}' on the Hub\nmore lines")
        return datasets.DatasetDict(held[path])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    held["asked"] = asked
    return held


def test_cifar10_comes_from_the_hub_without_local_files(on_the_hub, pictures, tmp_path):
    names = [f"hub {i}" for i in range(10)]
    rows = table(pictures(10, size=32), list(range(10)), names=names)
    on_the_hub["uoft-cs/cifar10"] = {"train": rows, "test": rows}
    data = load("cifar10", data_dir=tmp_path)  # a data folder without cifar10 in it
    assert on_the_hub["asked"] == ["uoft-cs/cifar10"]
    assert data.title == "CIFAR-10"
    assert data.classes[1] == "automobile"
    expected = torch.from_numpy(pictures(10, size=32).transpose(0, 3, 1, 2).copy())
    assert torch.equal(data.train.images, expected)


def test_fashion_mnist_comes_from_the_hub_without_local_files(on_the_hub, pictures):
    rows = table(
        pictures(4, size=28, gray=True), [0, 9, 3, 3], image="image", names=map(str, range(10))
    )
    on_the_hub["zalando-datasets/fashion_mnist"] = {"train": rows, "test": rows}
    data = load("fashion-mnist")
    assert (data.title, data.channels, data.classes[9]) == ("Fashion-MNIST", 1, "ankle boot")
    assert data.train.labels.tolist() == [0, 9, 3, 3]


def test_any_name_on_the_hub(on_the_hub, pictures):
    splits = {"train": table(pictures(4), [0, 1, 1, 0]), "validation": table(pictures(2), [1, 0])}
    on_the_hub["some/where"] = splits
    data = load("hf:some/where")
    assert (data.title, data.classes, len(data.test)) == ("some/where", ("x", "y"), 2)


def test_a_local_copy_comes_before_the_hub(on_the_hub, tmp_path, pictures, write_parquet):
    for name in ("cifar10", "some/where"):
        for split in ("train", "test"):
            write_parquet(tmp_path / name / f"{split}-0.parquet", pictures(3), [0, 1, 2])
    assert load("cifar10", data_dir=tmp_path).title == "CIFAR-10"
    assert len(load("hf:some/where", data_dir=tmp_path).test) == 3
    assert on_the_hub["asked"] == []


def test_another_version_on_the_hub_is_not_read_from_the_old_cache(on_the_hub, pictures, tmp_path):
    for seed in (0, 1, 1):
        if not (tmp_path / str(seed)).exists():
            table(pictures(4, seed=seed), [0, 1, 1, 0]).save_to_disk(tmp_path / str(seed))
        stored = datasets.load_from_disk(tmp_path / str(seed))
        on_the_hub["some/where"] = {"train": stored, "test": stored}
        data = load("hf:some/where")
        assert int(data.train.images[0, 0, 0, 0]) == pictures(4, seed=seed)[0, 0, 0, 0]
    assert len(list(cache.cache_folder().glob("*.pt"))) == 2


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("cifar10", "DIR/cifar10/*.parquet"),
        ("fashion-mnist", "DIR/fashion-mnist/*-ubyte.gz"),
        ("hf:no/such", "DIR/no/such/*.parquet"),
    ],
)
def test_an_unreachable_hub_says_where_to_put_files(on_the_hub, name, place, failure):
    message = failure(ConnectionError, load, name)
    assert message.startswith(f"{name.removeprefix('hf:')} must be ")
    assert "Couldn't reach" in message
    assert place in message
    assert "CORRIDOR_DATA" in message


def test_a_set_without_a_test_split(on_the_hub, pictures, failure):
    on_the_hub["some/where"] = {"train": table(pictures(2), [0, 1])}
    message = failure(ValueError, load, "hf:some/where")
    assert "must have a split train and one of val" in message
    assert "got train" in message


def test_a_set_without_images(on_the_hub, failure):
    rows = datasets.Dataset.from_dict({"text": ["a"], "label": [0]})
    on_the_hub["some/text"] = {"train": rows, "test": rows}
    message = failure(ValueError, load, "hf:some/text")
    assert "must have a column img or image, got text, label" in message

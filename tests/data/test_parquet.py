# pyright: reportAttributeAccessIssue=false
import os
import pickle
import socket

import numpy as np
import pytest
import torch

from corridor.data import load
from corridor.data.sources import find


def by_channel(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def test_pixels_and_labels_survive(parquet_folder, pictures):
    data = load(f"parquet:{parquet_folder}")
    assert torch.equal(data.train.images, by_channel(pictures(12)))
    assert torch.equal(data.test.images, by_channel(pictures(6, seed=1)))
    assert data.train.labels.tolist() == [0, 1, 2] * 4
    assert data.test.labels.tolist() == [2, 1, 0] * 2
    assert (data.title, data.classes) == ("set", ("0", "1", "2"))
    assert (data.channels, data.image_size, data.flip) == (3, 8, True)
    pixels = pictures(12).astype(float) / 255
    assert data.mean == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-12)
    assert data.std == pytest.approx(pixels.std((0, 1, 2)), rel=1e-12)


def test_other_column_names_several_files_and_validation(tmp_path, pictures, write_parquet):
    images, names = pictures(6), {"image": "image", "label": "fine_label"}
    write_parquet(tmp_path / "train-00000-of-00002.parquet", images[:4], [0, 1, 0, 1], **names)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", images[4:], [0, 1], **names)
    write_parquet(tmp_path / "validation-0.parquet", images[:2], [1, 0], **names)
    data = load(f"parquet:{tmp_path}")
    assert torch.equal(data.train.images, by_channel(images))
    assert torch.equal(data.test.images, by_channel(images[:2]))


def test_class_names_come_with_the_file(tmp_path, pictures):
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = {"image": list(pictures(4)), "label": [0, 1, 1, 0]}
    for split in ("train", "test"):
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(str(tmp_path / f"{split}.parquet"))
    data = load(f"parquet:{tmp_path}")
    assert data.classes == ("cat", "dog")
    assert torch.equal(data.train.images, by_channel(pictures(4)))


def test_gray_images_have_one_channel(tmp_path, pictures, write_parquet):
    images = pictures(4, gray=True)
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", images, [0, 1, 0, 1])
    data = load(f"parquet:{tmp_path}")
    assert torch.equal(data.train.images, torch.from_numpy(images)[:, None])
    assert len(data.mean) == 1


def test_image_size_averages_pixels(parquet_folder, pictures):
    data = load(f"parquet:{parquet_folder}", image_size=4)
    blocks = by_channel(pictures(12)).double().view(12, 3, 4, 2, 4, 2).mean((3, 5))
    assert data.image_size == 4
    assert (data.train.images - blocks).abs().max() <= 1  # rounded once in each direction


def test_nothing_is_printed(parquet_folder, capfd):
    load(f"parquet:{parquet_folder}")
    assert capfd.readouterr() == ("", "")


def test_nothing_global_changes_and_no_host_is_asked(parquet_folder, monkeypatch):
    import datasets

    def refuse(*arguments, **options):
        raise AssertionError("a host was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    logs = datasets.logging.get_verbosity

    def state():
        return (
            dict(os.environ),
            datasets.are_progress_bars_disabled(),
            logs(),
            torch.get_rng_state(),
        )

    before = state()
    load(f"parquet:{parquet_folder}")
    after = state()
    assert after[:3] == before[:3]
    assert torch.equal(after[3], before[3])


def test_a_worker_that_starts_anew_gets_the_path_of_the_images_and_no_copy(
    tmp_path, pictures, write_parquet
):
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", pictures(40, size=64), [0, 1] * 20)
    rows = find(f"parquet:{tmp_path}", None).read().train
    content = pickle.dumps(rows)
    assert len(content) < 40 * 64 * 64 / 4
    assert np.array_equal(np.asarray(pickle.loads(content).open(7)), pictures(40, size=64)[7])


def test_a_truncated_file(parquet_folder, failure):
    path = parquet_folder / "train-0.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    message = failure(OSError, load, f"parquet:{parquet_folder}")
    assert f"{path} must be whole parquet data" in message


def test_a_file_of_another_kind(parquet_folder, failure):
    path = parquet_folder / "test-0.parquet"
    for content in (b"", b"label,img\n1,2\n"):
        path.write_bytes(content)
        assert str(path) in failure(OSError, load, f"parquet:{parquet_folder}")


def test_a_file_damaged_in_the_middle(parquet_folder, failure):
    path = parquet_folder / "train-0.parquet"
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(bytes(content))
    message = failure(OSError, load, f"parquet:{parquet_folder}")
    assert "must be whole parquet data" in message
    assert str(parquet_folder) in message


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_files_for_a_split(parquet_folder, split, failure):
    (parquet_folder / f"{split}-0.parquet").unlink()
    message = failure(FileNotFoundError, load, f"parquet:{parquet_folder}")
    assert f"{split}*.parquet, found none" in message


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ({"image": "picture"}, "a column img or image"),
        ({"label": "y"}, "a column label or fine_label"),
    ],
)
def test_a_missing_column(parquet_folder, pictures, write_parquet, names, wanted, failure):
    write_parquet(parquet_folder / "test-0.parquet", pictures(2), [0, 1], **names)
    message = failure(ValueError, load, f"parquet:{parquet_folder}")
    assert f"must have {wanted}" in message
    assert next(iter(names.values())) in message
    assert "test-0.parquet" in message


@pytest.mark.parametrize(
    ("split", "label", "wanted"),
    [("train", -1, "got -1 in row 1"), ("test", 3, "from 0 to 2, got 3 in row 1")],
)
def test_labels_out_of_range(
    parquet_folder, pictures, write_parquet, split, label, wanted, failure
):
    write_parquet(parquet_folder / f"{split}-0.parquet", pictures(3), [0, label, 2])
    message = failure(ValueError, load, f"parquet:{parquet_folder}")
    assert wanted in message
    assert f"({split})" in message


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([10**12, 10**12 + 5, 10**12], "from 0 to 1, got 1000000000000 in row 0 (3 wrong in all)"),
        ([1, 2, 1], "from 0 to 1, got 2 in row 1 (1 wrong in all)"),
        ([0, 3, 0], "from 0 to 1, got 3 in row 1 (1 wrong in all)"),
    ],
)
def test_labels_that_are_ids_or_have_gaps(
    parquet_folder, pictures, write_parquet, labels, wanted, failure
):
    write_parquet(parquet_folder / "train-0.parquet", pictures(3), labels)
    message = failure(ValueError, load, f"parquet:{parquet_folder}")
    assert wanted in message
    assert "number the classes from 0 without gaps" in message


@pytest.mark.parametrize("kind", ["binary", "large_binary", "struct<bytes: binary>"])
def test_images_may_be_plain_bytes(parquet_folder, pictures, encoded, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [encoded(image) for image in pictures(6)]
    column = [{"bytes": x} for x in images] if kind.startswith("struct") else images
    form = pa.struct({"bytes": pa.binary()}) if kind.startswith("struct") else kind
    table = pa.table({"img": pa.array(column, form), "label": [0, 1, 2] * 2})
    pq.write_table(table, parquet_folder / "train-0.parquet")
    assert torch.equal(load(f"parquet:{parquet_folder}").train.images, by_channel(pictures(6)))


@pytest.mark.parametrize("labels", [["cat", "dog"], [0.0, 1.0], [0, None], [[0], [1]]])
def test_labels_that_are_no_numbers(parquet_folder, pictures, write_parquet, labels, failure):
    for split in ("train", "test"):
        write_parquet(parquet_folder / f"{split}-0.parquet", pictures(2), labels)
    message = failure(ValueError, load, f"parquet:{parquet_folder}")
    assert "must have whole numbers in column label" in message


def test_an_empty_table(parquet_folder, write_parquet, pictures, failure):
    import pyarrow.parquet as pq

    path = parquet_folder / "train-0.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert f"{path} must have rows" in failure(FileNotFoundError, load, f"parquet:{parquet_folder}")


@pytest.mark.parametrize("content", [b"no image", b"", None])
def test_an_unreadable_image_is_named_by_its_row(
    parquet_folder, pictures, write_parquet, encoded, content, failure
):
    images = [encoded(image) for image in pictures(6)]
    images[4] = images[4][:-30] if content is None else content
    write_parquet(parquet_folder / "test-0.parquet", images, [0, 1, 2] * 2)
    message = failure(OSError, load, f"parquet:{parquet_folder}")
    assert "(test), row 4 must be an image" in message


def test_images_of_unequal_size_ask_for_image_size(
    parquet_folder, pictures, write_parquet, failure
):
    images = [*pictures(2), *pictures(1, size=10)]
    write_parquet(parquet_folder / "train-0.parquet", images, [0, 1, 2])
    message = failure(ValueError, load, f"parquet:{parquet_folder}")
    assert "row 2 must have 8 x 8 pixels" in message
    assert "got 10 x 10; give image_size" in message
    assert load(f"parquet:{parquet_folder}", image_size=8).train.images.shape == (3, 3, 8, 8)


def test_oblong_images_ask_for_image_size_and_then_lose_their_ends(
    parquet_folder, write_parquet, failure
):
    image = np.zeros((8, 12, 3), np.uint8)
    image[:, 2:10] = 200  # what a centerd square of 8 x 8 keeps
    for split in ("train", "test"):
        write_parquet(parquet_folder / f"{split}-0.parquet", [image] * 2, [0, 1])
    message = failure(ValueError, load, f"parquet:{parquet_folder}")
    assert (
        "(train), row 0 must be square, got 12 x 8; give image_size to crop and resize" in message
    )
    data = load(f"parquet:{parquet_folder}", image_size=4)
    assert (data.train.images == 200).all()


def test_color_among_gray_is_named(tmp_path, pictures, write_parquet, failure):
    gray = list(pictures(3, gray=True))
    write_parquet(tmp_path / "train.parquet", gray, [0, 1, 2])
    write_parquet(tmp_path / "test.parquet", [*gray[:2], pictures(1)[0]], [0, 1, 2])
    message = failure(OSError, load, f"parquet:{tmp_path}")
    assert "row 2 must be gray like other images" in message


def test_sixteen_bit_images_are_refused(tmp_path, write_parquet, failure):
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", [deep] * 2, [0, 1])
    assert "must have 8 bits per channel" in failure(OSError, load, f"parquet:{tmp_path}")


def named(path, names, levels, labels):
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    images = [np.full((8, 8, 3), level, np.uint8) for level in levels]
    table = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
    table.to_parquet(str(path))


@pytest.mark.parametrize(
    ("other", "got"),
    [(["cat", "dog"], "bird"), (["cat", "bird", "dog"], "another order")],
)
@pytest.mark.parametrize("file", ["train-1.parquet", "test.parquet"])
def test_all_tables_must_have_the_same_class_names(tmp_path, other, got, file, failure):
    names = ["bird", "cat", "dog"]
    for name in ("train-0.parquet", "train-1.parquet", "test.parquet"):
        named(tmp_path / name, other if name == file else names, [10, 20], [0, 1])
    message = failure(ValueError, load, f"parquet:{tmp_path}")
    assert f"{file} must have the class names of {tmp_path / 'train-0.parquet'}, got" in message
    assert got in message


def test_validation_comes_before_test(tmp_path, pictures, write_parquet):
    for name, count in (("train", 4), ("test", 3), ("validation", 2)):
        write_parquet(tmp_path / f"{name}.parquet", pictures(count), [0, 1, 0, 1][:count])
    assert len(load(f"parquet:{tmp_path}").test) == 2


def test_exchanged_files_of_one_time_are_read_again(tmp_path, pictures, write_parquet):
    for name, seed in (("train", 0), ("test", 1)):
        write_parquet(tmp_path / f"{name}.parquet", pictures(4, seed=seed), [0, 1, 0, 1])
        os.utime(tmp_path / f"{name}.parquet", ns=(1, 1))
    load(f"parquet:{tmp_path}")
    for old, new in (("train", "x"), ("test", "train"), ("x", "test")):
        (tmp_path / f"{old}.parquet").rename(tmp_path / f"{new}.parquet")
    data = load(f"parquet:{tmp_path}")
    assert torch.equal(data.train.images, by_channel(pictures(4, seed=1)))


def test_labels_above_the_largest_int64(parquet_folder, pictures, encoded, failure):
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = pa.array([0, 2**63 + 5, 1], pa.uint64())
    table = pa.table({"img": [encoded(image) for image in pictures(3)], "label": labels})
    pq.write_table(table, parquet_folder / "train-0.parquet")
    message = failure(ValueError, load, f"parquet:{parquet_folder}")
    assert "must have labels from 0 to 2" in message

# pyright: reportAttributeAccessIssue=false
import os
import stat

import pytest
import torch

from corridor.data import cache, load, parquet


@pytest.fixture
def name(parquet_folder):
    return f"parquet:{parquet_folder}"


def files():
    return sorted(cache.cache_folder().iterdir())


def same(a, b):
    tensors = (
        (a.train.images, b.train.images),
        (a.train.labels, b.train.labels),
        (a.test.images, b.test.images),
        (a.test.labels, b.test.labels),
    )
    return all(torch.equal(x, y) for x, y in tensors) and (
        (a.mean, a.std, a.classes, a.title) == (b.mean, b.std, b.classes, b.title)
    )


def never(*arguments):
    raise AssertionError("the data set was opened again")


def test_the_second_time_nothing_is_decoded(name, monkeypatch):
    first = load(name)
    monkeypatch.setattr(parquet, "_read", never)
    assert same(first, load(name))
    assert same(load(name, limit=5), load(name, limit=5))
    with pytest.raises(AssertionError, match="opened again"):
        load(name, image_size=4)


def test_one_file_for_each_size_and_no_remains(name):
    load(name)
    load(name, limit=3)
    assert len(files()) == 1
    load(name, image_size=4)
    assert len(files()) == 2
    assert all(path.suffix == ".pt" and not path.name.startswith(".") for path in files())


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "flipped", "other", "pickle"])
def test_a_damaged_file_is_made_again(name, kind, monkeypatch):
    whole = load(name)
    expected = whole.train.images.clone()
    (path,) = files()
    content = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("not a cache file")
    elif kind == "flipped":
        at = content.index(bytes(expected.flatten()[:64].tolist())) + 17
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    elif kind == "other":
        torch.save([1, 2], path)
    else:
        torch.save({"checksum": never}, path)
    opened = []
    read = parquet._read
    monkeypatch.setattr(parquet, "_read", lambda *a: opened.append(1) or read(*a))
    assert torch.equal(load(name).train.images, expected)
    assert opened == [1]
    assert torch.equal(load(name).train.images, expected)
    assert opened == [1]


def test_changed_files_are_read_again(name, parquet_folder, pictures, write_parquet):
    load(name)
    write_parquet(parquet_folder / "train-0.parquet", pictures(12, seed=5), [0, 1, 2] * 4)
    images = torch.from_numpy(pictures(12, seed=5).transpose(0, 3, 1, 2).copy())
    assert torch.equal(load(name).train.images, images)


def test_a_new_time_of_change_is_enough(name, parquet_folder):
    load(name)
    os.utime(parquet_folder / "test-0.parquet", ns=(1, 1))
    load(name)
    assert len(files()) == 2


def test_a_folder_that_cannot_be_written_costs_no_run(name, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CORRIDOR_CACHE", str(tmp_path / "file" / "cache"))
    assert len(load(name).train) == 12
    assert "the decoded images were not kept" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="file modes are POSIX")
def test_the_file_has_the_mode_of_any_new_file(name, tmp_path):
    load(name)
    (tmp_path / "new").touch()
    (path,) = files()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "new").stat().st_mode)


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    assert cache.cache_folder().name == "corridor"
    monkeypatch.delenv("CORRIDOR_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "corridor"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "corridor"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache.cache_folder() == tmp_path / "Library" / "Caches" / "corridor"

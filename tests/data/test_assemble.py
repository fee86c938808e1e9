# pyright: reportAttributeAccessIssue=false
import os
import stat

import pytest
import torch

from corridor.data import NAMES, assemble, cache, check_name, load


@pytest.fixture
def name(parquet_folder):
    return f"parquet:{parquet_folder}"


def files():
    """List the files of decoded images. Arrow copies of parquet files lie in subfolders."""
    return sorted(cache.cache_folder().glob("*.pt"))


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


@pytest.fixture
def opened(monkeypatch):
    """Count how often a data set is opened."""
    calls, real = [], assemble._opened
    monkeypatch.setattr(assemble, "_opened", lambda *a: calls.append(1) or real(*a))
    return calls


def test_the_second_time_nothing_is_decoded(name, opened):
    first = load(name)
    assert same(first, load(name))
    assert same(load(name, limit=5), load(name, limit=5))
    assert opened == [1]
    load(name, image_size=4)
    assert opened == [1, 1]


def test_digits_need_no_cache():
    load("digits")
    assert not cache.cache_folder().exists()


def test_one_file_for_each_size_and_no_remains(name):
    load(name)
    load(name, limit=3)
    assert len(files()) == 1
    load(name, image_size=4)
    assert len(files()) == 2
    assert not list(cache.cache_folder().glob(".*.tmp"))


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "other", "pickle"])
def test_a_damaged_file_is_made_again(name, kind, opened):
    expected = load(name).train.images.clone()
    (path,) = files()
    content = path.read_bytes()
    if kind in ("empty", "cut", "text"):
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2]}.get(kind, b"text"))
    else:
        torch.save([1, 2] if kind == "other" else {"train": same}, path)
    for _ in range(2):
        assert torch.equal(load(name).train.images, expected)
        assert opened == [1, 1]


def test_a_half_written_file_is_never_read(name, monkeypatch, opened):
    def die(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", die)
        with pytest.raises(KeyboardInterrupt):
            load(name)
    assert not files()
    assert len(load(name).train) == 12
    assert opened == [1, 1]


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


def test_a_folder_that_cannot_be_written_costs_no_run(image_folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CORRIDOR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="decoded images are not cached in .*file/cache: "):
        assert len(load(f"imagefolder:{image_folder}").train) == 6


def test_arrow_copies_that_cannot_be_written_are_one_line(name, tmp_path, monkeypatch, failure):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CORRIDOR_CACHE", str(tmp_path / "file" / "cache"))
    assert str(tmp_path / "file") in failure(OSError, load, name)


def test_a_full_disk_is_not_called_damaged_data(name):
    resource = pytest.importorskip("resource")
    free = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, free[1]))  # what `ulimit -f` sets
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            load(name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, free)
    assert caught.value.filename == str(cache.cache_folder())
    assert len(load(name).train) == 12


@pytest.mark.skipif(os.name == "nt", reason="file modes are POSIX")
def test_the_file_has_the_mode_of_any_new_file(name, tmp_path):
    load(name)
    (tmp_path / "new").touch()
    (path,) = files()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "new").stat().st_mode)


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    assert cache.cache_folder().name == "corridor"
    monkeypatch.delenv("CORRIDOR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "corridor"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "corridor"


@pytest.mark.parametrize(
    "name", ["mnist", "", "digits:x", "parquet", "parquet:", "imagefolder:", "hf:", ":x", "foo:x"]
)
def test_unknown_name_is_one_line_that_lists_the_names(name, failure):
    for function in (load, check_name):
        message = failure(ValueError, function, name)
        assert repr(name) in message
        assert all(known in message for known in NAMES)


@pytest.mark.parametrize("name", ["digits", "parquet:/nowhere", "hf:a/b", "imagenet"])
def test_check_name_opens_nothing(name):
    check_name(name)


@pytest.mark.parametrize("key", ["image_size", "limit"])
@pytest.mark.parametrize("number", [0, -3])
def test_numbers_below_one_are_refused(key, number, failure):
    message = failure(ValueError, load, "digits", **{key: number})
    assert message == f"{key} must be at least 1, got {number}"


def test_a_data_folder_that_does_not_exist_is_named(tmp_path, monkeypatch, failure):
    missing = tmp_path / "missing"
    assert str(missing) in failure(FileNotFoundError, load, "digits", data_dir=missing)
    monkeypatch.setenv("CORRIDOR_DATA", str(missing))
    assert "CORRIDOR_DATA" in failure(FileNotFoundError, load, "digits")
    assert len(load("digits", data_dir=tmp_path).train) == 1437


@pytest.mark.parametrize("head", ["parquet", "imagefolder"])
def test_a_path_that_does_not_exist_is_named(head, tmp_path, failure):
    message = failure(FileNotFoundError, load, f"{head}:{tmp_path / 'absent'}")
    assert "absent must have train" in message

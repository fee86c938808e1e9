import pytest

from corridor.data import NAMES, check_name, load


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
    assert message == f"{key}: expected at least 1, got {number}"


def test_a_data_folder_that_does_not_exist_is_named(tmp_path, monkeypatch, failure):
    missing = tmp_path / "missing"
    assert str(missing) in failure(FileNotFoundError, load, "digits", data_dir=missing)
    monkeypatch.setenv("CORRIDOR_DATA", str(missing))
    assert "CORRIDOR_DATA" in failure(FileNotFoundError, load, "digits")
    assert len(load("digits", data_dir=tmp_path).train) == 1437


@pytest.mark.parametrize("head", ["parquet", "imagefolder"])
def test_a_path_that_does_not_exist_is_named(head, tmp_path, failure):
    message = failure(FileNotFoundError, load, f"{head}:{tmp_path / 'absent'}")
    assert "absent: expected a folder" in message

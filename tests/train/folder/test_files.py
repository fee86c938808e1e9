import errno
import math
import os
import subprocess
import sys

import pytest
from filelock import FileLock
from tests.train.processes import environment

from corridor.train.folder.files import (
    atomic,
    dumps,
    locked,
    numbers,
    read_json,
    read_lines,
    save_tensors,
    wait_until_free,
    write_json,
)


def test_an_atomic_file_is_the_old_one_until_it_is_whole(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    class TroubleError(Exception):
        pass

    def half_write():
        with atomic(path) as file:
            file.write(b"new but")
            raise TroubleError

    with pytest.raises(TroubleError):
        half_write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_file_that_cannot_be_written_is_named_and_not_its_temporary_name(
    tmp_path, monkeypatch
):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for path in (tmp_path / "a", tmp_path / "no" / "folder"):
        with pytest.raises(OSError, match="No") as caught:
            write_json(path, {})
        assert caught.value.filename == str(path)


@pytest.mark.parametrize(
    ("name", "reason"), [("no/such.pt", "No such file or directory"), ("folder", "Is a directory")]
)
def test_tensors_that_cannot_be_written_say_why_and_no_more(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="cannot write") as caught:
        save_tensors(tmp_path / name, {})
    assert str(caught.value) == f"cannot write {tmp_path / name} ({reason})"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_non_finite_numbers_survive_valid_json(tmp_path):
    value = {"a": math.inf, "b": -math.inf, "c": math.nan, "d": [math.inf, 1.5]}
    assert "Infinity" not in dumps(value)
    write_json(tmp_path / "x.json", value)
    read = numbers(read_json(tmp_path / "x.json"))
    assert read["a"] == math.inf
    assert read["b"] == -math.inf
    assert math.isnan(read["c"])


def test_an_unfinished_last_line_is_dropped(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1, "loss": "nan"}\n{"step": 2, "lo')
    (line,) = read_lines(path)
    assert line["step"] == 1
    assert math.isnan(line["loss"])


def test_a_last_line_without_its_newline_is_unfinished(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    assert read_lines(path) == [{"step": 1}]


def test_a_damaged_line_in_the_middle_is_said(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"m\.jsonl.*not a JSON object"):
        read_lines(path)


def test_a_missing_file_has_no_lines(tmp_path):
    assert read_lines(tmp_path / "none") == []


def test_a_json_file_that_holds_no_object_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="must hold a JSON object, got list"):
        read_json(tmp_path / "a.json")


HOLD = """
import os, pathlib, sys, time
from corridor.train.folder.files import locked
with locked(pathlib.Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


def test_a_lock_holds_between_processes_and_ends_with_a_killed_one(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as holder:
        child = int(holder.stdout.readline())
        with pytest.raises(OSError, match="another process is writing to"), locked(tmp_path):
            pass
        assert not wait_until_free(tmp_path, 0.1)
        holder.kill()
        holder.wait()
        # The child that the holder forked still lives, as a process that decodes images would.
        assert wait_until_free(tmp_path, 5.0)
        os.kill(child, 9)


def test_one_process_holds_a_folder_once(tmp_path):
    with locked(tmp_path), pytest.raises(OSError, match="another process"), locked(tmp_path):
        pass
    assert wait_until_free(tmp_path, 0.0)
    assert wait_until_free(tmp_path / "absent", 0.0)


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch):
    def refuse(self):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.warns(UserWarning, match="has no locks"), locked(tmp_path):
        pass

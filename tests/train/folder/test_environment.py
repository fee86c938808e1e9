"""The commit that made a run is that of the package, wherever the run was started."""

import subprocess

import pytest

from corridor.train.folder.record import git_commit


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "package.py").write_text("a = 1\n")
    git("add", "package.py")
    git("commit", "--quiet", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD")


def test_it_is_that_of_the_file_and_not_of_the_working_directory(checkout, monkeypatch, tmp_path):
    folder, commit = checkout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert git_commit(folder / "package.py") == commit


def test_changed_files_are_told(checkout):
    folder, commit = checkout
    (folder / "package.py").write_text("a = 2\n")
    assert git_commit(folder / "package.py") == f"{commit}-dirty"


def test_a_file_that_no_checkout_tracks_has_none(checkout):
    folder, _ = checkout
    installed = folder / "site-packages"
    installed.mkdir()
    (installed / "package.py").write_text("")
    assert git_commit(installed / "package.py") is None

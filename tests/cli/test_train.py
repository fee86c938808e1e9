"""``corridor train``, by its words and exit statuses."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
from tests.train.processes import corridor as corridor_process
from tests.train.processes import environment

from corridor.train.config import Config
from corridor.train.folder.record import read_run

LINEAR = "tests.train.small_networks:linear"
QUICK = ["--model", LINEAR, "--batch-size", "256", "--epochs", "2", "--no-progress"]


def test_every_field_of_the_config_is_an_option(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = command("train", "--help")
    assert status == 0
    for entry in dataclasses.fields(Config):
        assert f"--{entry.name.replace('_', '-')} " in out
        assert entry.metadata["help"].split()[0] in out


def test_options_become_the_config(command, tmp_path):
    status, out, err = command(
        "train", "--out", tmp_path / "a", *QUICK, "--lr", "inf", "--steps", 3, "--no-drop-last",
        "--augment", "--f-star", "-0.5", "--eval-every", 0,
    )  # fmt: skip
    assert (status, err) == (0, "")
    expected = Config(
        model=LINEAR, batch_size=256, epochs=2, lr=float("inf"), steps=3, drop_last=False,
        augment=True, f_star=-0.5, eval_every=0,
    )  # fmt: skip
    assert read_run(tmp_path / "a").config == expected
    assert "finished: 3 steps" in out
    assert "final loss" in out
    assert "test accuracy" in out
    assert "step size" in out
    assert str(tmp_path / "a") in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "--out"),
        (["train", "--out", "{tmp}/a", "--lr", "fast"], "--lr"),
        (["train", "--out", "{tmp}/a", "--learning-rate", "1"], "--learning-rate"),
        (["train", "--out", "{tmp}/a", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["train", "--out", "{tmp}/a", "--lr", "nan"], "lr must be a number"),
        (["train", "--out", "{tmp}/a", "--lr", "inf", "--schedule", "cosine"], "infinite cap"),
        (
            ["train", "--out", "{tmp}/a", "--optimizer", "sgd"],
            "lr must be a number for optimizer 'sgd'",
        ),
        (["train", "--out", "{tmp}/a", "--optimizer", "adamx"], "clr, clr-adam, polyak"),
        (["train", "--out", "{tmp}/a", "--data", "nothing-like-this"], "nothing-like-this"),
        (
            ["train", "--out", "{tmp}/a", "--model", "nothing-like-this"],
            "model must be one of resnet18",
        ),
        (["train", "--out", "{tmp}/a", "--device", "abacus"], "device"),
        (["train", "--out", "{tmp}/full"], "not empty"),
        (["train", "--out", "{tmp}/full/file"], "cannot write to"),
        (["train", "--out", "/proc/nowhere"], "cannot write to /proc/nowhere"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(refused, tmp_path, arguments, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert words in refused(*arguments)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_a_warning_line(tmp_path):
    arguments = ["train", "--out", tmp_path / "a", *QUICK]
    assert corridor_process(*arguments).returncode == 0
    (tmp_path / "a" / "summary.json").unlink()
    (tmp_path / "a" / "checkpoints" / "step-000000010" / "plain.pt").write_bytes(b"torn")
    resumed = corridor_process(*arguments, "--resume")
    assert resumed.returncode == 0
    (line,) = resumed.stderr.splitlines()
    assert line.startswith("corridor: warning: ")
    assert "step-000000010 is damaged" in line


def test_progress_off_a_terminal_ends_with_the_last_epoch(tmp_path):
    done = corridor_process("train", "--out", tmp_path / "a", *QUICK[:-1])
    assert done.returncode == 0
    first, *epochs = done.stderr.splitlines()
    assert "10 steps" in first
    # Lines of earlier epochs are left out if the line before is younger than ten seconds.
    assert [line.split(":")[0] for line in epochs] in (["epoch 2"], ["epoch 1", "epoch 2"])
    assert all("images/s" in line and "test accuracy" in line for line in epochs)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_stopped_run_says_how_to_go_on_and_does(tmp_path, number):
    out = tmp_path / "a"
    arguments = [sys.executable, "-m", "corridor", "train", "--out", str(out), *QUICK]
    arguments += ["--epochs", "100000"]
    process = subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not list((out / "checkpoints").glob("step-*")):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(process.pid, number)
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == ""
    (line,) = complaint.splitlines()
    assert line.startswith("corridor: stopped at step ")
    assert line.endswith("go on with --resume")
    steps = len(read_run(out).steps)
    shorter = corridor_process(
        "train", "--out", out, *QUICK, "--steps", steps + 1, "--epochs", 100000, "--resume"
    )
    assert shorter.returncode == 0, shorter.stderr
    assert len(read_run(out).steps) == steps + 1


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.4])
def test_ctrl_c_before_the_training_is_one_line(tmp_path, seconds):
    arguments = [sys.executable, "-m", "corridor", "train", "--out", str(tmp_path / "a"), *QUICK]
    process = subprocess.Popen(
        [sys.executable, "-c", READY, *arguments[3:]],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()  # Python itself has started
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint == "corridor: interrupted\n"


READY = """
import sys
from corridor.cli import main
print("ready", flush=True)
sys.exit(main())
"""

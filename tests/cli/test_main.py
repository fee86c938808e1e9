"""The words and exit statuses that all commands share."""

import subprocess
import sys

import pytest
from tests.train.processes import environment

import corridor


def test_version(command):
    assert command("--version") == (0, f"corridor {corridor.__version__}\n", "")


def test_torch_waits_until_a_command_needs_it():
    commands = "train", "probe", "export", "sweep", "figure", "reproduce", "flow", "prove"
    words = [[], ["--version"], ["--help"], ["practise"], *([name, "--help"] for name in commands)]
    program = f"import sys; from corridor.cli import main; [main(line) for line in {words}]; "
    program += "print([name for name in ('torch', 'numpy', 'sympy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert done.stdout.count("Usage: ") == 2 + len(commands)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_the_commands(command, arguments):
    status, out, err = command(*arguments)
    assert status == 0
    assert err == ""
    assert "train" in out
    assert "sweep" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["practise"], "practise"),
        (["reproduce", "--out", "{tmp}/a", "--batch-size", "64"], "--batch-size"),
        (
            ["figure", "2", "--out", "{tmp}/a", "--engine", "abacus"],
            "pool must be one of serial, local, ray",
        ),
    ],
)
def test_wrong_input_is_one_line_and_status_2(refused, arguments, words):
    assert words in refused(*arguments)


def test_debugging_shows_the_traceback(command, tmp_path, monkeypatch):
    monkeypatch.setenv("CORRIDOR_DEBUG", "1")
    status, _, err = command("train", "--out", tmp_path, "--epochs", 0)
    assert status == 2
    assert "Traceback" in err


def test_a_reader_that_goes_away_is_no_error():
    program = f"{sys.executable} -m corridor train --help | head -n 1"
    done = subprocess.run(program, shell=True, capture_output=True, text=True, env=environment())
    assert done.stderr == ""

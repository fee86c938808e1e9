"""What tests of several rooms use."""

import signal

import pytest

from corridor import cli

# A shell without job control starts background jobs with SIGINT ignored, and children inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def command(capfd):
    """Run a command line in this process: status, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(a) for a in arguments])
        said = capfd.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def refused(command, tmp_path):
    """Run a command line with wrong input, and return the one line on stderr."""

    def call(*arguments: str) -> str:
        status, out, err = command(*[a.replace("{tmp}", str(tmp_path)) for a in arguments])
        assert (status, out) == (2, "")
        assert err.startswith("corridor: ")
        assert err.count("\n") == 1
        return err

    return call

"""What tests of several commands use."""

import pytest


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

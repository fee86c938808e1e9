"""What tests of several rooms use."""

import pytest

from corridor import cli


@pytest.fixture
def command(capfd):
    """Run a command line in this process: status, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(a) for a in arguments])
        said = capfd.readouterr()
        return status, said.out, said.err

    return call

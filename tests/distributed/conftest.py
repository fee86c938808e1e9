from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.distributed.ranks import Ranks


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Four processes for all tests of this folder."""
    found = Ranks()
    yield found
    found.close()

"""What the training tests share."""

import pytest

from corridor.train.config import Config


@pytest.fixture
def small():
    """A config of 2 epochs of 5 steps that runs in a fraction of a second."""

    def make(**options):
        few = {"model": "tests.train.small_networks:linear", "batch_size": 256, "epochs": 2}
        return Config(**{**few, **options})

    return make

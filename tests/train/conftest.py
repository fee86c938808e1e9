"""What the training tests share."""

import random
import tempfile
from pathlib import Path

import pytest

from corridor.train.config import Config


@pytest.fixture
def small():
    """A config of 2 epochs of 5 steps that runs in a fraction of a second."""

    def make(**options):
        few = {"model": "tests.train.small_networks:linear", "batch_size": 256, "epochs": 2}
        return Config(**{**few, **options})

    return make


@pytest.fixture
def dies_once():
    """Options of a run whose process is killed in step 7 of the first try."""
    width = random.SystemRandom().randrange(10**12)
    yield {"model": "tests.train.small_networks:dies_once", "width": width, "checkpoint_every": 2}
    (Path(tempfile.gettempdir()) / f"corridor-dies-once-{width}").unlink(missing_ok=True)

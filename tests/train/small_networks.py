"""Networks that the tests name as ``tests.train.small_networks:...``."""

import math
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import numpy
import torch
import torch.distributed as dist
from torch import nn


def noisy(num_classes: int, in_channels: int) -> nn.Module:
    """Batch norm and dropout: state beside the parameters, and use of the random generator."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(256, num_classes),
    )


def linear(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))


def broken() -> nn.Module:
    raise RuntimeError("this network cannot be built")


class _NeverFinite(nn.Linear):
    def forward(self, input):
        return super().forward(input.flatten(1)) / 0.0


def hopeless(num_classes: int) -> nn.Module:
    return _NeverFinite(64, num_classes)


def killed() -> nn.Module:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class _DiesOnce(nn.Linear):
    """Killed in its seventh training step, unless the file is there."""

    def __init__(self, marker, outputs):
        super().__init__(64, outputs)
        self.marker, self.count = marker, 0

    def forward(self, input):
        self.count += self.training
        if self.count == 7 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(input)


def dies_once(num_classes: int, width: int) -> nn.Module:
    """`linear`, killed in its seventh step of the first try; the width is a number of the test."""
    marker = Path(tempfile.gettempdir()) / f"corridor-dies-once-{width}"
    return nn.Sequential(nn.Flatten(), _DiesOnce(marker, num_classes))


def slow(num_classes: int) -> nn.Module:
    """Takes a few hundredths of a second a batch: time to be killed in."""
    return nn.Sequential(nn.Flatten(), _Waiting(64, num_classes))


class _Waiting(nn.Linear):
    def forward(self, input):
        time.sleep(0.02)
        return super().forward(input)


def quarter_of_a_gpu(num_classes: int) -> nn.Module:
    """Built once four of one Ray job have met, all on the same GPU."""
    import ray

    here = ray.get_runtime_context()  # job numbers begin anew in every cluster
    place = Path(tempfile.gettempdir()) / f"corridor-{here.get_job_id()}-{here.get_node_id()}"
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    end = time.monotonic() + 60
    while len(seen := list(place.iterdir())) < 4:
        if time.monotonic() > end:
            raise RuntimeError(f"only {len(seen)} of 4 came")
        time.sleep(0.02)
    if {file.read_text() for file in seen} != {"0"}:
        raise RuntimeError("they are on several GPUs")
    return linear(num_classes)


class _Unhurried(nn.Module):
    """Waits a little in every training step, so that something can happen to it meanwhile."""

    def forward(self, input):
        if self.training:
            time.sleep(0.03)
        return input


def unhurried(num_classes: int) -> nn.Module:
    return nn.Sequential(_Unhurried(), nn.Flatten(), nn.Linear(64, num_classes))


class _Poisoned(nn.Module):
    """NaN in the third and fourth training step of rank 1 alone."""

    count = 0

    def forward(self, input):
        if self.training:
            self.count += 1
            if self.count in (3, 4) and dist.is_initialized() and dist.get_rank() == 1:
                return input * math.nan
        return input


def poisoned(num_classes: int) -> nn.Module:
    return nn.Sequential(_Poisoned(), nn.Flatten(), nn.Linear(64, num_classes))


class _Pair(nn.Linear):
    def forward(self, input):
        return super().forward(input.flatten(1)), input


def tuples(num_classes: int) -> nn.Module:
    return _Pair(64, num_classes)


def normed(num_classes: int) -> nn.Module:
    """Batch norm over vectors, which refuses a batch of one image in training."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.BatchNorm1d(num_classes))


class _Drawing(nn.Module):
    """Noise from the generators of Python and NumPy, in training and in evaluation."""

    def forward(self, input):
        return input * (1 + random.gauss(0.0, 0.1) + 0.1 * numpy.random.standard_normal())  # noqa: NPY002


def drawing(num_classes: int) -> nn.Module:
    return nn.Sequential(_Drawing(), nn.Flatten(), nn.Linear(64, num_classes))


class _RaisesLater(nn.Linear):
    count = 0

    def forward(self, input):
        self.count += self.training and input.abs().sum().item() > 0  # not for the blank images
        if self.count > 1:
            raise RuntimeError("the second step fails")
        return super().forward(input.flatten(1))


def raises_later(num_classes: int) -> nn.Module:
    return _RaisesLater(64, num_classes)


class _Fourier(nn.Linear):
    """Random features outside the state dict."""

    def __init__(self, num_classes):
        super().__init__(16, num_classes)
        self.register_buffer("waves", torch.randn(64, 16), persistent=False)

    def forward(self, input):
        return super().forward((input.flatten(1) @ self.waves).sin())


def fourier(num_classes: int) -> nn.Module:
    return _Fourier(num_classes)


def frozen(num_classes: int) -> nn.Module:
    """A batch norm that is not to move."""
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64).eval(), nn.Linear(64, num_classes))

"""Networks that the tests name as ``tests.train.small_networks:...``."""

import os
import signal

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

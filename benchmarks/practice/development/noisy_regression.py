"""Regression of a noisy stream."""

from functools import cache

import torch
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import fixed, seeded, squared, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn


@cache
def teacher() -> nn.Module:
    """Return the network whose outputs are the targets."""
    return seeded(0, lambda: mlp(20, 32, 32, 1, act=nn.Tanh)).requires_grad_(False)


def draw(g: torch.Generator, count: int, noise: float) -> tuple[Tensor, Tensor]:
    """Return inputs, and targets with noise of a given deviation."""
    x = torch.randn(count, 20, generator=g) * 2
    return x, 4 * teacher()(x) + torch.randn(count, 1, generator=g) * noise


def make(seed: int) -> Task:
    return task(
        seed,
        lambda: mlp(20, 128, 128, 1),
        stream(seed, lambda g: draw(g, 32, 1.0)),
        squared,
        fixed(lambda g: draw(g, 2048, 0.0), 4),
    )


problem = Problem(
    name="noisy_regression",
    kind="noisy regression",
    steps=15_000,
    batch_size=32,
    make=make,
    about="A network's outputs with noise; dense layers; validation is the error without noise.",
)

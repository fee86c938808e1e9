"""A network that finds a smaller network without noise."""

from functools import cache

import torch
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import fixed, seeded, squared, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn


@cache
def teacher() -> nn.Module:
    """Return the network whose outputs are the targets."""
    return seeded(5, lambda: mlp(12, 16, 1)).requires_grad_(False)


def draw(g: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets."""
    x = torch.randn(count, 12, generator=g)
    return x, 4 * teacher()(x)


def make(seed: int) -> Task:
    return task(
        seed,
        lambda: mlp(12, 64, 64, 1),
        stream(seed, lambda g: draw(g, 16)),
        squared,
        fixed(lambda g: draw(g, 2000), 4),
        floor=1e-5,
    )


problem = Problem(
    name="student",
    kind="fitted, small batch",
    steps=8000,
    batch_size=16,
    make=make,
    about="Outputs of a small ReLU network on fresh inputs; a larger one can fit them exactly.",
)

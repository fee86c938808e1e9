"""Regression with heavy noise and a robust loss."""

from functools import cache

import torch
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import fixed, squared, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn
from torch.nn.functional import huber_loss


@cache
def waves() -> tuple[Tensor, Tensor]:
    """Return the directions and the phases of the sines that the targets are made of."""
    g = torch.Generator().manual_seed(3)
    return torch.randn(8, 12, generator=g) * 0.7, torch.rand(12, generator=g) * 6


def draw(g: torch.Generator, count: int, noise: float) -> tuple[Tensor, Tensor]:
    """Return inputs, and sums of sines with noise whose variance is infinite."""
    x, (directions, phases) = torch.randn(count, 8, generator=g), waves()
    normal = torch.randn(3, count, 1, generator=g)
    tailed = normal[0] / (normal[1:].square().mean(0)).sqrt()  # Student's t with 2 degrees
    return x, torch.sin(x @ directions + phases).sum(1, keepdim=True) / 2 + noise * tailed


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return huber_loss(model(batch[0]), batch[1])


def make(seed: int) -> Task:
    return task(
        seed,
        lambda: mlp(8, 96, 96, 96, 1, act=nn.GELU),
        stream(seed, lambda g: draw(g, 64, 0.5)),
        loss,
        fixed(lambda g: draw(g, 2048, 0.0), 4),
        score=squared,
    )


problem = Problem(
    name="heavy_tails",
    kind="noisy regression",
    steps=10_000,
    batch_size=64,
    make=make,
    about="Sums of sines with Student noise of 2 degrees; Huber loss; validation without noise.",
    long=True,
)

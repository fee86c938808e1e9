"""Click rates from sets of tags by a factorization machine."""

from functools import cache

import torch
from benchmarks.practice.data import zipf
from benchmarks.practice.parts import fixed, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, embedding_bag

TAGS, LENGTH = 20_000, 12


class Machine(nn.Module):
    """A weight and a vector per tag; all pairs of tags meet in an inner product."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(TAGS, 1))
        self.vectors = nn.Parameter(torch.randn(TAGS, 8) * 0.05)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, tags: Tensor) -> Tensor:
        """Return a logit per row of tags."""
        linear = embedding_bag(tags, self.weights, mode="sum")[:, 0]
        v = self.vectors[tags]
        pairs = (v.sum(1).square() - v.square().sum(1)).sum(1) / 2
        return linear + pairs + self.bias


@cache
def truth() -> tuple[Tensor, Tensor]:
    """Return an effect and a hidden vector per tag."""
    g = torch.Generator().manual_seed(1)
    return torch.randn(TAGS, generator=g) * 0.5, torch.randn(TAGS, 3, generator=g) * 0.3


def draw(g: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Return rows of tags and whether each was clicked."""
    tags, (effects, vectors) = zipf(TAGS, (count, LENGTH), g), truth()
    v = vectors[tags]
    pairs = (v.sum(1).square() - v.square().sum(1)).sum(1) / 2
    logits = effects[tags].sum(1) + pairs - 2
    return tags, (torch.rand(count, generator=g) < logits.sigmoid()).float()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return binary_cross_entropy_with_logits(model(batch[0]), batch[1])


def make(seed: int) -> Task:
    batches = stream(seed, lambda g: draw(g, 64))
    return task(seed, Machine, batches, loss, fixed(lambda g: draw(g, 2048), 10))


problem = Problem(
    name="tags",
    kind="click rates",
    steps=8000,
    batch_size=64,
    make=make,
    about="Synthetic clicks on sets of 12 of 20,000 tags; factorization machine: very sparse.",
)

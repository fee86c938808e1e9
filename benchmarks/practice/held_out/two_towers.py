"""Which item a user takes next, by two towers and the other items of the batch."""

from functools import cache

import torch
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import fixed, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

ITEMS, HISTORY = 2000, 6


class Towers(nn.Module):
    """A user is the mean of the items taken so far, through dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.taken = nn.Embedding(ITEMS, 24), nn.Embedding(ITEMS, 24)
        for table in (self.items, self.taken):
            nn.init.normal_(table.weight, std=0.1)
        self.dense = mlp(24, 64, 24)

    def forward(self, histories: Tensor, items: Tensor) -> Tensor:
        """Return a logit per user and item of the batch."""
        return self.dense(self.taken(histories).mean(1)) @ self.items(items).T * 3


@cache
def vectors() -> Tensor:
    """Return a hidden vector per item."""
    return torch.randn(ITEMS, 4, generator=torch.Generator().manual_seed(2))


def draw(g: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Return the items that each user has taken, and the next one."""
    users = torch.randn(count, 4, generator=g)
    liked = torch.softmax(users @ vectors().T * 1.2, 1)
    items = torch.multinomial(liked, HISTORY + 1, generator=g)
    return items[:, 1:], items[:, 0]


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(*batch), torch.arange(len(batch[1])))


def make(seed: int) -> Task:
    batches = stream(seed, lambda g: draw(g, 64))
    return task(seed, Towers, batches, loss, fixed(lambda g: draw(g, 64), 60))


problem = Problem(
    name="two_towers",
    kind="recommender",
    steps=2500,
    batch_size=64,
    make=make,
    about="Synthetic histories over 2,000 items; two towers, the batch gives the other choices.",
)

"""Ratings of items by users, from factors."""

from functools import cache

import torch
from benchmarks.practice.data import pieces, zipf
from benchmarks.practice.parts import epochs, squared, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn

USERS, ITEMS, COUNT = 3000, 1500, 1_000_000


class Factors(nn.Module):
    """The inner product of a user's and an item's vector, and a bias of each."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(USERS, 16), nn.Embedding(ITEMS, 16)
        self.biases = nn.Embedding(USERS + ITEMS, 1)
        self.mean = nn.Parameter(torch.zeros(()))
        for table in (self.users, self.items, self.biases):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return a rating per pair of a user and an item."""
        user, item = pairs.unbind(1)
        biases = self.biases(user) + self.biases(item + USERS)
        return (self.users(user) * self.items(item)).sum(1) + biases[:, 0] + self.mean


@cache
def ratings() -> tuple[Tensor, Tensor]:
    """Return pairs of a user and an item, and a rating from 1 to 5 of each."""
    g = torch.Generator().manual_seed(0)
    user, item = zipf(USERS, (COUNT,), g), zipf(ITEMS, (COUNT,), g)
    u, v = torch.randn(USERS, 5, generator=g), torch.randn(ITEMS, 5, generator=g)
    biases = (
        torch.randn(USERS, generator=g)[user] * 0.4 + torch.randn(ITEMS, generator=g)[item] * 0.5
    )
    noise = torch.randn(COUNT, generator=g) * 0.5
    exact = 3.5 + biases + (u[user] * v[item]).sum(1) * 0.3 + noise
    return torch.stack((user, item), 1), exact.round().clamp(1, 5)


def make(seed: int) -> Task:
    pairs, values = ratings()
    count = COUNT - 20_000
    batches = ((pairs[part], values[part]) for part, _ in epochs(seed, count, 64))
    return task(
        seed, Factors, batches, squared, pieces(pairs[count:], values[count:], batch=2000, count=10)
    )


problem = Problem(
    name="ratings",
    kind="recommender",
    steps=12_000,
    batch_size=64,
    make=make,
    about="Synthetic ratings, 3,000 users, 1,500 items; factors of rank 16: sparse and noisy.",
    long=True,
)

"""Click rates from ids of very unequal frequency."""

from functools import cache

import torch
from benchmarks.practice.data import zipf
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import fixed, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

FIELDS, IDS = 8, 3000


class Network(nn.Module):
    """An embedding per id and three dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(FIELDS * IDS, 8)
        nn.init.normal_(self.table.weight, std=0.05)
        self.dense = mlp(FIELDS * 8, 64, 32, 1)

    def forward(self, ids: Tensor) -> Tensor:
        """Return a logit per row of ids."""
        return self.dense(self.table(ids + IDS * torch.arange(FIELDS)).flatten(1))[:, 0]


@cache
def truth() -> tuple[Tensor, Tensor]:
    """Return an effect and a hidden vector per id."""
    g = torch.Generator().manual_seed(0)
    effects = torch.randn(FIELDS, IDS, generator=g) * 0.6
    return effects, torch.randn(FIELDS, IDS, 4, generator=g) * 0.5


def draw(g: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Return rows of ids and whether each was clicked."""
    ids, fields = zipf(IDS, (count, FIELDS), g), torch.arange(FIELDS)
    effects, vectors = truth()
    v = vectors[fields, ids]
    pairs = (v.sum(1).square() - v.square().sum(1)).sum(-1) / 2  # all fields, two at a time
    logits = effects[fields, ids].sum(1) + pairs * 0.4 - 2.5
    return ids, (torch.rand(count, generator=g) < logits.sigmoid()).float()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return binary_cross_entropy_with_logits(model(batch[0]), batch[1])


def make(seed: int) -> Task:
    batches = stream(seed, lambda g: draw(g, 256))
    return task(seed, Network, batches, loss, fixed(lambda g: draw(g, 2048), 10))


problem = Problem(
    name="clicks",
    kind="click rates",
    steps=6000,
    batch_size=256,
    make=make,
    about="Synthetic clicks, 8 fields of 3,000 ids; embeddings and dense layers: sparse gradients.",
)

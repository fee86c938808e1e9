"""Both halves of a stretch of English that must find each other."""

import torch
from benchmarks.practice import data
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

BATCH, LENGTH = 128, 24


class Pair(nn.Module):
    """The mean of word embeddings through dense layers, a network for each half."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(vocabulary, 64, mode="mean")
        nn.init.normal_(self.words.weight, std=0.3)
        self.first, self.second = mlp(64, 96, 48), mlp(64, 96, 48)
        self.sharpness = nn.Parameter(torch.tensor(2.0))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return how like each first half is to each second half."""
        a, b = tokens.chunk(2, 1)
        a, b = normalize(self.first(self.words(a))), normalize(self.second(self.words(b)))
        return a @ b.T * self.sharpness.exp()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    likeness, partners = model(batch[0]), torch.arange(len(batch[0]))
    return (cross_entropy(likeness, partners) + cross_entropy(likeness.T, partners)) / 2


def make(seed: int) -> Task:
    train, test, vocabulary = data.words("english", 3000)
    held = data.spread(test, BATCH, 2 * LENGTH, 10)
    mixed = torch.randperm(BATCH * 10, generator=torch.Generator().manual_seed(0))
    tokens = torch.cat([inputs for inputs, _ in held])[mixed]
    return task(
        seed,
        lambda: Pair(vocabulary),
        data.reading(seed, train, BATCH, 2 * LENGTH),
        loss,
        [(part, part) for part in tokens.split(BATCH)],
    )


problem = Problem(
    name="verse_halves",
    kind="contrastive",
    steps=2500,
    batch_size=BATCH,
    make=make,
    about="English Bible, 24 words and the next 24; bags of words: contrast over 128 pairs.",
)

"""The problems: a network, a stream of batches, and how many steps it may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from corridor import data, models

Batches = Iterator[tuple[Tensor, Tensor]]
TEXT = Path(__file__).parents[2] / "LICENSE"


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        half: "development", "held-out" or, for the choice of a default alone, "choice".
        model: makes the network; the global generator is seeded before.
        examples: inputs and targets of the training set, and of the test set if there is one.
        batch: examples a step; 0 for all of them.
        steps: steps allowed.
        loss: of the network's output and the targets.
    """

    half: str
    model: Callable[[], nn.Module]
    examples: Callable[[], tuple[Tensor, ...]]
    batch: int
    steps: int
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy

    @property
    def size(self) -> int:
        """Examples a step."""
        return self.batch or len(self.examples()[0])

    @property
    def window(self) -> int:
        """Steps that the loss is averaged over: an epoch, from 1 to 20."""
        return max(1, min(20, len(self.examples()[0]) // self.size))

    def batches(self, seed: int) -> Batches:
        """Batches without end, each epoch in a new order; a last, smaller batch is left out."""
        inputs, targets = self.examples()[:2]
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(inputs), generator=generator)
            for part in order.split(self.size):
                if len(part) == self.size:
                    yield inputs[part], targets[part]


@cache
def images(name: str, size: int | None = None, limit: int | None = None) -> tuple[Tensor, ...]:
    """Training and test images, standardised, with their labels."""
    found = data.load(name, image_size=size, limit=limit)
    mean = found.train.images.float().mean((0, 2, 3), keepdim=True)
    std = found.train.images.float().std((0, 2, 3), keepdim=True)
    tests = min(len(found.test), 1000)
    return (
        (found.train.images.float() - mean) / std,
        found.train.labels.long(),
        ((found.test.images.float() - mean) / std)[:tests],
        found.test.labels.long()[:tests],
    )


@cache
def cancer() -> tuple[Tensor, ...]:
    """The breast cancer data of scikit-learn: 569 rows of 30 features, two classes."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    x = torch.tensor(found.data, dtype=torch.float32)
    x, y = (x - x.mean(0)) / x.std(0), torch.tensor(found.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:469], order[469:]
    return x[train], y[train], x[test], y[test]


@cache
def text() -> tuple[Tensor, ...]:
    """Windows of 33 characters of the licence: the last 32 are the targets; a tenth is the test."""
    raw = TEXT.read_text(encoding="utf-8")
    codes = {c: i for i, c in enumerate(sorted(set(raw)))}
    stream = torch.tensor([codes[c] for c in raw])
    windows = stream.unfold(0, 33, 4)
    cut = len(windows) * 9 // 10
    return windows[:cut, :-1], windows[:cut, 1:], windows[cut:, :-1], windows[cut:, 1:]


@cache
def matrix(rows: int, columns: int, rank: int) -> tuple[Tensor, ...]:
    """Entries of a low-rank matrix: index pairs and values."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, rank, generator=generator) for n in (rows, columns))
    index = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    return index, (left @ right.T / rank**0.5).flatten()


class Factors(nn.Module):
    """``u_i . v_j``, started small: badly scaled at first, sharp later."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.left = nn.Parameter(0.1 * torch.randn(rows, rank))
        self.right = nn.Parameter(0.1 * torch.randn(columns, rank))

    def forward(self, index: Tensor) -> Tensor:
        """Entries of the product at index pairs [b, 2]."""
        return (self.left[index[:, 0]] * self.right[index[:, 1]]).sum(1)


class Characters(nn.Module):
    """A causal transformer over characters, attention by its formula so that Hg exists."""

    def __init__(self, width: int, layers: int, characters: int = 96, length: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [b, characters, length] of the characters that follow x, [b, length]."""
        x = self.embed(x) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).transpose(1, 2)


class Block(nn.Module):
    """Attention with two heads, and a layer of four times the width, each after a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream [b, length, width]."""
        b, n, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(b, n, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / (width // 2) ** 0.5
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, width))
        return x + self.mlp(self.norms[1](x))


def digits(kind: str, half: str, batch: int, steps: int) -> Problem:
    """A network on the 1,437 training images of digits."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "cnn": lambda: models.build("cnn", num_classes=10, in_channels=1, image_size=8, width=16),
        "mlp": lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        ),
        "tanh": lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 64),
            nn.Tanh(),
            nn.Linear(64, 64),
            nn.Tanh(),
            nn.Linear(64, 10),
        ),
        "logistic": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    }
    return Problem(half, makers[kind], lambda: images("digits"), batch, steps)


def cifar(name: str, width: int, half: str, batch: int, steps: int, limit: int) -> Problem:
    """A network on some CIFAR-10 images at 16 x 16 pixels."""

    def make() -> nn.Module:
        return models.build(name, num_classes=10, in_channels=3, image_size=16, width=width)

    return Problem(half, make, lambda: images("cifar10", 16, limit), batch, steps)


def characters(width: int, layers: int, half: str, batch: int, steps: int) -> Problem:
    """A transformer on the characters of the licence."""
    return Problem(half, lambda: Characters(width, layers), text, batch, steps)


def factors(shape: tuple[int, int, int], half: str, batch: int, steps: int) -> Problem:
    """Matrix factorisation at the true rank."""
    return Problem(
        half,
        lambda: Factors(*shape),
        lambda: matrix(*shape),
        batch,
        steps,
        mse_loss,
    )


DEV, HELD, CHOICE = "development", "held-out", "choice"
PROBLEMS: dict[str, Problem] = {
    "digits CNN-BN, B 128": digits("cnn", DEV, 128, 300),
    "digits CNN-BN, B 16": digits("cnn", DEV, 16, 1200),
    "digits MLP, B 128": digits("mlp", DEV, 128, 500),
    "digits MLP, full": digits("mlp", DEV, 0, 300),
    "digits tanh, B 16": digits("tanh", DEV, 16, 1200),
    "digits logistic, B 128": digits("logistic", DEV, 128, 500),
    "matrix 40 x 30, full": factors((40, 30, 4), DEV, 0, 500),
    "CIFAR ResNet-8, B 256": cifar("resnet8", 16, DEV, 256, 200, 3000),
    "CIFAR VGG, B 64": cifar("vgg16", 8, DEV, 64, 400, 2000),
    "characters, B 32": characters(32, 1, DEV, 32, 800),
    "digits CNN-BN, full": digits("cnn", HELD, 0, 150),
    "digits MLP, B 16": digits("mlp", HELD, 16, 1200),
    "digits tanh, B 128": digits("tanh", HELD, 128, 500),
    "digits tanh, full": digits("tanh", HELD, 0, 300),
    "cancer logistic, B 16": Problem(HELD, lambda: nn.Linear(30, 2), cancer, 16, 1200),
    "digits logistic, full": digits("logistic", HELD, 0, 300),
    "matrix 60 x 20, B 64": factors((60, 20, 3), HELD, 64, 1500),
    "CIFAR ResNet-8, B 64": cifar("resnet8", 16, HELD, 64, 500, 3000),
    "CIFAR VGG, B 256": cifar("vgg16", 8, HELD, 256, 200, 2000),
    "characters, two layers, B 64": characters(48, 2, HELD, 64, 500),
    "CIFAR ResNet-8, B 32": cifar("resnet8", 16, CHOICE, 32, 600, 2000),
    "CIFAR VGG, B 16": cifar("vgg16", 8, CHOICE, 16, 1000, 2000),
    "CIFAR ResNet-8 of width 8, B 16": cifar("resnet8", 8, CHOICE, 16, 1000, 2000),
    "characters, B 8": characters(32, 1, CHOICE, 8, 1500),
}


def of(half: str) -> list[str]:
    """Names of a half's problems; a choice is made on its own and those of development."""
    halves = (DEV, CHOICE) if half == CHOICE else (half,)
    return [name for name, problem in PROBLEMS.items() if problem.half in halves]

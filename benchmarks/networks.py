"""Networks and batches for the geometry benchmarks, about 0.7 million parameters each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from corridor import models


@dataclass
class Problem:
    """A model, a batch, and its mean cross-entropy."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor

    def closure(self) -> Tensor:
        """The loss, forward only."""
        return cross_entropy(self.model(self.inputs), self.targets)

    def gradient(self) -> tuple[Tensor, ...]:
        """One forward and one backward pass: the unit of cost."""
        return torch.autograd.grad(self.closure(), list(self.model.parameters()))

    def double(self) -> Problem:
        """The same in float64, on a copy."""
        import copy

        twin = copy.deepcopy(self)
        twin.model.double()
        if twin.inputs.is_floating_point():
            twin.inputs = twin.inputs.double()
        return twin


class Block(nn.Module):
    """A pre-norm transformer block with causal attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, time, width] to the same."""
        b, t, w = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, w // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, w))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A small GPT over a vocabulary of 65 characters."""

    def __init__(self, width: int = 128, layers: int = 4, context: int = 64) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(65, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 65)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens [batch, time] to logits [batch * time, 65]."""
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x))).flatten(0, 1)


def mlp() -> Problem:
    """Two hidden layers of 512 ReLU units on 784 inputs."""
    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    return Problem(model, torch.randn(256, 784), torch.randint(0, 10, (256,)))


def transformer() -> Problem:
    """Four blocks of width 128 on 16 sequences of 64."""
    tokens = torch.randint(0, 65, (16, 65))
    return Problem(Transformer(), tokens[:, :-1].contiguous(), tokens[:, 1:].flatten())


def resnet() -> Problem:
    """ResNet-8 of width 48 with batch normalisation in training mode, 32 images of CIFAR size."""
    model = models.build("resnet8", num_classes=10, in_channels=3, image_size=32, width=48)
    return Problem(model, torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,)))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "MLP": mlp,
    "transformer": transformer,
    "ResNet, batch norm": resnet,
}

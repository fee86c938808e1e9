"""Build small networks, one for every kind of layer whose second derivative may be wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint


@dataclass
class Case:
    """Hold a model and its batch. ``closure`` computes the mean loss in the current mode."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor

    def closure(self) -> Tensor:
        outputs = self.model(self.inputs)
        if self.targets.is_floating_point():
            return (outputs - self.targets).square().mean()
        return nn.functional.cross_entropy(outputs, self.targets)

    def copy(self) -> Case:
        return copy.deepcopy(self)

    def double(self) -> Case:
        twin = self.copy()
        twin.model.double()
        if twin.inputs.is_floating_point():
            twin.inputs = twin.inputs.double()
        if twin.targets.is_floating_point():
            twin.targets = twin.targets.double()
        return twin


class Attention(nn.Module):
    """Apply scaled dot-product attention over three positions, by default with the fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(len(x), -1, 2, 6).transpose(1, 2).chunk(3, -1)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.head(mixed.transpose(1, 2).flatten(2).mean(1))


class Tied(nn.Module):
    """Share one matrix between embedding and head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 5)
        self.middle = nn.Linear(5, 5)
        self.head = nn.Linear(5, 6, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.middle(self.embedding(tokens).mean(1))))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell = kind(3, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.3))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.body, x, use_reentrant=False))


def mlp(*middle: nn.Module, width: int = 6) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), *middle, nn.Linear(width, 3))


def conv(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), *middle, nn.Flatten(), nn.LazyLinear(3))


def _evaluating(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 1, 6, 6))
    return model.eval()


def _bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(6, 5), nn.Tanh(), nn.Linear(5, 3))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp gelu": lambda: mlp(nn.GELU()),
    "mlp relu": lambda: mlp(nn.ReLU()),
    "mlp silu in place": lambda: mlp(nn.SiLU(inplace=True)),
    "batch norm": lambda: conv(nn.BatchNorm2d(4), nn.SiLU()),
    "batch norm, in-place relu": lambda: conv(nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
    "batch norm, evaluation": lambda: _evaluating(conv(nn.BatchNorm2d(4), nn.SiLU())),
    "layer norm": lambda: mlp(nn.LayerNorm(6), nn.GELU()),
    "rms norm": lambda: mlp(nn.RMSNorm(6), nn.GELU()),
    "group norm": lambda: conv(nn.GroupNorm(2, 4), nn.SiLU()),
    "instance norm": lambda: conv(nn.InstanceNorm2d(4, affine=True), nn.SiLU()),
    "dropout": lambda: mlp(nn.Tanh(), nn.Dropout(0.5)),
    "max pool": lambda: conv(nn.Tanh(), nn.MaxPool2d(2)),
    "tied weights": Tied,
    "attention": Attention,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "weight norm": lambda: nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)
    ),
    # In training its singular vectors move with the weights, and autograd holds them constant.
    "spectral norm": lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)
    ).eval(),
    "checkpointed, dropout": Checkpointed,
    "transformer layer": lambda: nn.Sequential(
        nn.TransformerEncoderLayer(4, 2, 6, activation="gelu", batch_first=True),
        nn.Flatten(),
        nn.Linear(12, 3),
    ),
}


def case(name: str, seed: int = 0) -> Case:
    """Return the network called `name`, in float32, with a batch of eight."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = (8, 3, 4) if name in ("attention", "transformer layer") else (8, 4)
        shape = (8, 1, 6, 6) if "norm, " in name or name in CONVOLUTIONS else shape
        shape = (8, 5, 3) if name in ("lstm", "gru") else shape
        inputs = torch.randn(shape)
        targets = torch.randint(0, 3, (8,))
        if name == "tied weights":
            inputs, targets = torch.randint(0, 6, (8, 3)), torch.randint(0, 6, (8,))
        model = MODELS[name]()
        model(inputs)  # a lazy layer takes its shape
    return Case(model, inputs, targets)


CONVOLUTIONS = ("batch norm", "group norm", "instance norm", "max pool")

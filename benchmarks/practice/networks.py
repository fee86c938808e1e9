"""Small networks that several problems are built of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return dense layers with a nonlinearity between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1])


class Block(nn.Module):
    """A transformer block with normalization before each part."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = mlp(width, 4 * width, width, act=nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for x [batch, time, width]."""
        b, t, w = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, w // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, w))
        return x + self.dense(self.norm2(x))


class Transformer(nn.Module):
    """A small GPT: token and place embeddings, causal blocks, a head."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        for table in (self.token, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=True) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [batch, time, vocabulary] of the tokens [batch, time]."""
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(x)))


class Recurrent(nn.Module):
    """An embedding, a recurrent network and a head."""

    def __init__(self, vocabulary: int, width: int, hidden: int, *, lstm: bool = False) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.token.weight, std=0.1)
        self.cells = (nn.LSTM if lstm else nn.GRU)(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [batch, time, vocabulary] of the tokens [batch, time]."""
        return self.head(self.cells(self.token(tokens))[0])


class ViT(nn.Module):
    """A vision transformer that averages its patches."""

    def __init__(self, size: int, patch: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.place = nn.Parameter(torch.randn((size // patch) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=False) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, 10]."""
        x = self.patches(images).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(x)).mean(1))


def convolutions(widths: Sequence[int], outputs: int) -> nn.Sequential:
    """Return 3 x 3 convolutions with stride 2 after the first, an average and a dense layer."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(before, after, 3, 2 if i else 1, 1), nn.GroupNorm(4, after), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], outputs)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """A U-Net of two levels, with a vector added to the middle if there is one."""

    def __init__(self, inputs: int, outputs: int, width: int, extra: int = 0) -> None:
        super().__init__()
        self.into, self.down = _pair(inputs, width), _pair(width, 2 * width)
        self.low = _pair(2 * width, 4 * width)
        self.up = _pair(6 * width, 2 * width)
        self.extra = nn.Linear(extra, 4 * width) if extra else None
        self.last = nn.Sequential(_pair(3 * width, width), nn.Conv2d(width, outputs, 1))

    def forward(self, images: Tensor, extra: Tensor | None = None) -> Tensor:
        """Return [batch, outputs, size, size] of the images and of a vector [batch, extra]."""
        fine = self.into(images)
        middle = self.down(nn.functional.avg_pool2d(fine, 2))
        low = self.low(nn.functional.avg_pool2d(middle, 2))
        if self.extra is not None:
            low = low + self.extra(extra)[:, :, None, None]
        joined = torch.cat((nn.functional.interpolate(low, scale_factor=2), middle), 1)
        joined = nn.functional.interpolate(self.up(joined), scale_factor=2)
        return self.last(torch.cat((joined, fine), 1))


def _pair(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, 1, 1), nn.GroupNorm(4, after), nn.SiLU())


class Graph(nn.Module):
    """Graph layers: each node adds a dense map of its neighbors' mean to a map of itself."""

    def __init__(self, inputs: int, width: int, outputs: int, layers: int, *, pool: bool) -> None:
        super().__init__()
        widths = [inputs, *[width] * layers]
        both = list(pairwise(widths))
        self.own = nn.ModuleList(nn.Linear(a, b) for a, b in both)
        self.other = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in both)
        self.head, self.pool = nn.Linear(width, outputs), pool

    def forward(self, graph: tuple[Tensor, Tensor]) -> Tensor:
        """Return an output per node, or per graph with `pool`.

        Args:
            graph: features [batch, nodes, inputs] and adjacency [batch, nodes, nodes].
        """
        x, edges = graph
        mean = edges / edges.sum(-1, keepdim=True).clamp(min=1)
        for own, other in zip(self.own, self.other, strict=True):
            x = torch.relu(own(x) + other(mean @ x))
        return self.head(x.mean(1) if self.pool else x)


def sines(t: Tensor, width: int) -> Tensor:
    """Return sines and cosines [batch, width] of times in [0, 1]."""
    rates = torch.exp(torch.linspace(0, 6, width // 2))
    return torch.cat((torch.sin(t[:, None] * rates), torch.cos(t[:, None] * rates)), 1)


class Adapted(nn.Module):
    """A dense layer that stays as it is, plus a trained matrix of low rank."""

    def __init__(self, dense: nn.Linear, rank: int) -> None:
        super().__init__()
        self.dense = dense
        self.down = nn.Linear(dense.in_features, rank, bias=False)
        self.up = nn.Linear(rank, dense.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for x [..., inputs]."""
        return self.dense(x) + self.up(self.down(x))


def adapted(model: nn.Module, rank: int) -> nn.Module:
    """Turn all parameters into buffers, and give each dense layer a trained part of low rank."""
    for module in list(model.modules()):
        for name, value in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, value.detach())
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Adapted(child, rank))
    return model

"""A density by a normalizing flow."""

import math

import torch
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import fixed, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn

CENTERS, SPREAD = 8, 0.3


class Flow(nn.Module):
    """Affine couplings that move either coordinate by a function of the other one."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        self.nets = nn.ModuleList(mlp(1, 48, 48, 2, act=nn.SiLU) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logarithm of the density at x [batch, 2]."""
        kept, moved, total = x[:, :1], x[:, 1:], 0.0
        for net in self.nets:
            scale, shift = net(kept).chunk(2, 1)
            scale = torch.tanh(scale)
            kept, moved, total = moved * scale.exp() + shift, kept, total + scale
        square = kept.square() + moved.square()
        return (total - square / 2 - math.log(2 * math.pi))[:, 0]


def centers() -> Tensor:
    """Return the centers of the density's parts, on a circle."""
    angles = torch.arange(CENTERS) * (2 * torch.pi / CENTERS)
    return 2 * torch.stack((angles.cos(), angles.sin()), 1)


def true_log(x: Tensor) -> Tensor:
    """Return the logarithm of the true density."""
    squares = (x[:, None] - centers()).square().sum(-1) / (2 * SPREAD**2)
    return torch.logsumexp(-squares, 1) - math.log(CENTERS * 2 * math.pi * SPREAD**2)


def draw(g: torch.Generator, count: int) -> Tensor:
    """Return points of the true density."""
    chosen = centers()[torch.randint(CENTERS, (count,), generator=g)]
    return chosen + torch.randn(count, 2, generator=g) * SPREAD


def loss(model: nn.Module, x: Tensor) -> Tensor:
    return -model(x).mean()


def excess(model: nn.Module, x: Tensor) -> Tensor:
    """Return the divergence from the true density, as found on a sample."""
    return (true_log(x) - model(x)).mean()


def make(seed: int) -> Task:
    return task(
        seed,
        Flow,
        stream(seed, lambda g: draw(g, 128)),
        loss,
        fixed(lambda g: draw(g, 4000), 5),
        score=excess,
        floor=1e-3,
    )


problem = Problem(
    name="flow",
    kind="no lower bound",
    steps=2500,
    batch_size=128,
    make=make,
    f_star=None,
    about="Eight Gaussians on a circle; flow of 6 couplings; a density's loss has no known bound.",
)

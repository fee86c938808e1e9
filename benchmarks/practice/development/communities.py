"""Communities of random graphs, few nodes of which are known."""

import torch
from benchmarks.practice.networks import Graph
from benchmarks.practice.parts import entropy, fixed, right, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor

NODES, GROUPS = 40, 4


def draw(g: torch.Generator, count: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return stochastic block models with the features of their nodes, and each node's group."""
    groups = torch.randint(GROUPS, (count, NODES), generator=g)
    same = groups[:, :, None] == groups[:, None, :]
    rates = torch.where(same, 0.4, 0.08)
    upper = (torch.rand(count, NODES, NODES, generator=g) < rates).float().triu(1)
    known = torch.rand(count, NODES, 1, generator=g) < 0.2
    features = torch.eye(GROUPS)[groups] * known
    noise = torch.randn(count, NODES, 8, generator=g)
    return (torch.cat((features, noise), -1), upper + upper.mT), groups


def make(seed: int) -> Task:
    return task(
        seed,
        lambda: Graph(GROUPS + 8, 48, GROUPS, layers=4, pool=False),
        stream(seed, lambda g: draw(g, 16)),
        entropy,
        fixed(lambda g: draw(g, 100), 8),
        accuracy=right,
    )


problem = Problem(
    name="communities",
    kind="graph network",
    steps=3500,
    batch_size=16,
    make=make,
    about="Fresh block models of 40 nodes, a fifth of them labeled; graph network of 4 layers.",
)

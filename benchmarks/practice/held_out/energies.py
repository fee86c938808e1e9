"""The energy of a random graph, by a graph network."""

from functools import cache

import torch
from benchmarks.practice.networks import Graph
from benchmarks.practice.parts import fixed, squared, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor

NODES, MARKS = 20, 4


@cache
def charges() -> Tensor:
    """Return the weights that make two charges of a node's marks."""
    return torch.randn(MARKS, 2, generator=torch.Generator().manual_seed(6))


def draw(g: torch.Generator, count: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return geometric graphs with marks on their nodes, and the energy of each graph.

    The energy is a sum over neighbors of the product of one's first and the other's second charge.
    """
    places = torch.rand(count, NODES, 2, generator=g)
    reach = 0.2 + 0.25 * torch.rand(count, 1, 1, generator=g)
    edges = (torch.cdist(places, places) < reach).float() * (1 - torch.eye(NODES))
    marks = torch.randn(count, NODES, MARKS, generator=g)
    first, second = torch.tanh(marks @ charges()).unbind(-1)
    energy = torch.einsum("bi,bij,bj->b", first, edges, second) / NODES
    features = torch.cat((edges.sum(-1, keepdim=True) / 5, marks), -1)
    return (features, edges), energy[:, None]


def make(seed: int) -> Task:
    return task(
        seed,
        lambda: Graph(1 + MARKS, 48, 1, layers=3, pool=True),
        stream(seed, lambda g: draw(g, 32)),
        squared,
        fixed(lambda g: draw(g, 250), 8),
    )


problem = Problem(
    name="energies",
    kind="graph network",
    steps=4000,
    batch_size=32,
    make=make,
    about="Fresh geometric graphs of 20 nodes; a graph network of 3 layers finds their energy.",
)

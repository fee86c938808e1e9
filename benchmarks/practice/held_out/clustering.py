"""How many triangles a random graph has, by a graph network."""

import torch
from benchmarks.practice.networks import Graph
from benchmarks.practice.parts import fixed, squared, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor

NODES = 20


def draw(g: torch.Generator, count: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return geometric graphs with random marks on their nodes, and their clustering."""
    places = torch.rand(count, NODES, 2, generator=g)
    reach = 0.2 + 0.25 * torch.rand(count, 1, 1, generator=g)
    edges = (torch.cdist(places, places) < reach).float() * (1 - torch.eye(NODES))
    noise = torch.rand(count, NODES, NODES, generator=g).triu(1)
    edges = edges * (noise + noise.mT > 0.2)
    degrees = edges.sum(-1)
    triangles = torch.einsum("bij,bjk,bki->b", edges, edges, edges)
    pairs = (degrees * (degrees - 1)).sum(-1).clamp(min=1)
    marks = torch.randn(count, NODES, 6, generator=g)
    features = torch.cat((degrees[..., None] / 5, marks), -1)
    return (features, edges), 4 * (triangles / pairs)[:, None]


def make(seed: int) -> Task:
    return task(
        seed,
        lambda: Graph(7, 48, 1, layers=3, pool=True),
        stream(seed, lambda g: draw(g, 32)),
        squared,
        fixed(lambda g: draw(g, 250), 8),
    )


problem = Problem(
    name="clustering",
    kind="graph network",
    steps=4000,
    batch_size=32,
    make=make,
    about="Fresh geometric graphs of 20 nodes; a graph network of 3 layers finds their clustering.",
)

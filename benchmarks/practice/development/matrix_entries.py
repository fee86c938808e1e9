"""A matrix of low rank from its entries."""

from functools import cache

import torch
from benchmarks.practice.data import pieces
from benchmarks.practice.parts import epochs, squared, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn

SIZE, RANK = 150, 5


class Product(nn.Module):
    """The product of two narrow matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(SIZE, 10) * 0.1)
        self.right = nn.Parameter(torch.randn(SIZE, 10) * 0.1)

    def forward(self, places: Tensor) -> Tensor:
        """Return the entries at the places [batch, 2]."""
        return (self.left[places[:, 0]] * self.right[places[:, 1]]).sum(1)


@cache
def entries() -> tuple[Tensor, Tensor]:
    """Return all places of the matrix in random order, and its entries, whose mean square is 1."""
    g = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, SIZE, RANK, generator=g)
    places = torch.randperm(SIZE * SIZE, generator=g)
    places = torch.stack((places // SIZE, places % SIZE), 1)
    return places, (left[places[:, 0]] * right[places[:, 1]]).sum(1) / RANK**0.5


def make(seed: int) -> Task:
    places, values = entries()
    count = 18_000
    batches = ((places[part], values[part]) for part, _ in epochs(seed, count, 64))
    held = pieces(places[count:], values[count:], batch=1500, count=3)
    return task(seed, Product, batches, squared, held, floor=1e-4)


problem = Problem(
    name="matrix_entries",
    kind="fitted, small batch",
    steps=2000,
    batch_size=64,
    make=make,
    about="150 x 150 matrix of rank 5 without noise; two factors of rank 10; hidden entries count.",
)

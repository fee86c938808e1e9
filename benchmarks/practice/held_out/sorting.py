"""Sequences in order, by a transformer."""

import torch
from benchmarks.practice.networks import Transformer
from benchmarks.practice.parts import fixed, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

LENGTH, SYMBOLS = 10, 20


def draw(g: torch.Generator, count: int) -> Tensor:
    """Return numbers, followed by the same numbers in order."""
    numbers = torch.randint(SYMBOLS, (count, LENGTH), generator=g)
    return torch.cat((numbers, numbers.sort(1).values), 1)


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    logits = model(batch[:, :-1])[:, LENGTH - 1 :]
    return cross_entropy(logits.flatten(0, 1), batch[:, LENGTH:].flatten())


def accuracy(model: nn.Module, batch: Tensor) -> Tensor:
    """Return the share of right numbers."""
    found = model(batch[:, :-1])[:, LENGTH - 1 :].argmax(-1)
    return (found == batch[:, LENGTH:]).float().mean()


def make(seed: int) -> Task:
    return task(
        seed,
        lambda: Transformer(SYMBOLS, 2 * LENGTH, width=48, layers=2, heads=4),
        stream(seed, lambda g: draw(g, 128)),
        loss,
        fixed(lambda g: draw(g, 500), 4),
        accuracy=accuracy,
        floor=1e-4,
    )


problem = Problem(
    name="sorting",
    kind="fitted, large batch",
    steps=500,
    batch_size=128,
    make=make,
    about="Fresh lists of 10 numbers and the same in order; GPT of 2 blocks: a task without error.",
)

"""Provide seeds, orders of examples and tasks to the problem files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from benchmarks.practice.problem import Task
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from corridor._atomic import atomic
from corridor.data.cache import cache_folder
from corridor.data.rng import derive, generator

VALIDATION = -1  # the seed of all validation examples: no run has it

Loss = Callable[[nn.Module, Any], Tensor]


def seeded(seed: int, make: Callable[[], Any]) -> Any:
    """Return `make()` with torch's global generator seeded, and restore the generator's state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, 0))
        return make()


def stream(seed: int, draw: Callable[[torch.Generator], Any]) -> Iterator[Any]:
    """Yield `draw(g)` without end, with one generator that follows from the seed."""
    g = generator(seed, 1)
    while True:
        yield draw(g)


def epochs(seed: int, count: int, batch: int) -> Iterator[tuple[Tensor, torch.Generator]]:
    """Yield the positions of each batch, in a new order per epoch, and a generator.

    Args:
        seed: seed of the run.
        count: number of examples.
        batch: number of examples of a batch. A last, smaller batch is left out.
    """
    g = generator(seed, 1)
    while True:
        for part in torch.randperm(count, generator=g).split(batch):
            if len(part) == batch:
                yield part, g


def fixed(draw: Callable[[torch.Generator], Any], count: int) -> list[Any]:
    """Return `count` batches that are equal in all runs: the validation examples."""
    g = generator(VALIDATION, 1)
    return [draw(g) for _ in range(count)]


def task(
    seed: int,
    network: Callable[[], nn.Module],
    batches: Iterator[Any],
    loss: Loss,
    examples: Iterable[Any],
    *,
    score: Loss | None = None,
    accuracy: Loss | None = None,
    floor: float = 0.0,
) -> Task:
    """Return a task whose validation is a mean over fixed batches of equal size.

    Args:
        seed: seed of the run.
        network: makes the network from torch's global generator.
        batches: training batches.
        loss: returns the training loss of a batch.
        examples: validation batches.
        score: returns the validation loss of a batch (default: `loss`).
        accuracy: returns the share of right answers in a batch (default: None, no accuracy).
        floor: smallest validation loss. A smaller one counts as the floor (default: 0).
    """
    kept = list(examples)

    def mean(model: nn.Module, of: Loss) -> float:
        return sum(float(of(model, batch)) for batch in kept) / len(kept)

    @torch.no_grad()
    def validate(model: nn.Module) -> dict[str, float]:
        was = model.training
        model.eval()
        # `max` would keep the floor for a loss that is not a number.
        value = mean(model, score or loss)
        found = {"loss": floor if value < floor else value}
        if accuracy:
            found["accuracy"] = mean(model, accuracy)
        model.train(was)
        return found

    return Task(seeded(seed, network), batches, loss, validate)


def entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy. The classes are the last axis of the model's output."""
    inputs, targets = batch
    return cross_entropy(model(inputs).flatten(0, -2), targets.flatten())


def right(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the share of right answers. The classes are the last axis of the model's output."""
    inputs, targets = batch
    return (model(inputs).argmax(-1) == targets).float().mean()


def squared(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean squared error."""
    inputs, targets = batch
    return (model(inputs) - targets).square().mean()


def kept(name: str, make: Callable[[], Any]) -> Any:
    """Return tensors from the cache folder, or make them and keep them there.

    Args:
        name: name of the file. Change it with anything that changes the tensors.
        make: returns tensors, or lists, tuples and dictionaries of them.
    """
    path = cache_folder() / "practice" / f"{name}_{torch.__version__}.pt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            torch.save(make(), file)
    return torch.load(path, weights_only=True)


def trained(
    name: str, network: Callable[[], nn.Module], batches: Iterator[Any], loss: Loss, steps: int
) -> dict[str, Tensor]:
    """Return the weights of a network trained by AdamW, from the cache folder if they are there.

    Args:
        name: name of the file in the cache folder. Change it with anything that changes the run.
        network: makes the network from torch's global generator.
        batches: training batches.
        loss: returns the training loss of a batch.
        steps: number of steps at a rate from 3e-3 to 0 along a cosine.
    """
    return kept(name, lambda: _train(seeded(0, network), batches, loss, steps))


def _train(model: nn.Module, batches: Iterator[Any], loss: Loss, steps: int) -> dict[str, Tensor]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, next(batches)).backward()
        optimizer.step()
        schedule.step()
    return model.state_dict()

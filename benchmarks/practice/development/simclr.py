"""Two views of an image that must find each other."""

import torch
from benchmarks.practice import data
from benchmarks.practice.networks import convolutions
from benchmarks.practice.parts import VALIDATION, epochs, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from corridor.data.rng import crop_and_flip, generator

BATCH = 64


def views(images: Tensor, g: torch.Generator) -> Tensor:
    """Return two views of each image, all first views before all second views.

    A view is mirrored, shifted, changed in brightness and contrast, and loses a square.
    """
    both = data.standard(crop_and_flip(images.repeat(2, 1, 1, 1), g, flip=True))
    change = torch.randn(2, len(both), 3, 1, 1, generator=g) * 0.4
    corners = torch.randint(11, (2, len(both), 1, 1, 1), generator=g)
    along = torch.arange(16)
    row, column = along[:, None] - corners[0], along[None, :] - corners[1]
    hidden = (row >= 0) & (row < 6) & (column >= 0) & (column < 6)
    return (both * (1 + change[0]) + change[1]) * ~hidden


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    found = normalize(model(batch))
    likeness = found @ found.T / 0.2
    likeness.fill_diagonal_(float("-inf"))
    partners = torch.arange(len(batch)).roll(len(batch) // 2)
    return cross_entropy(likeness, partners)


def make(seed: int) -> Task:
    images, _, test, _ = data.cifar(16)
    g = generator(VALIDATION, 1)
    return task(
        seed,
        lambda: convolutions((3, 32, 48, 64), 32),
        (views(images[part], g) for part, g in epochs(seed, len(images), BATCH)),
        loss,
        [views(part, g) for part in test[: BATCH * 16].split(BATCH)],
    )


problem = Problem(
    name="simclr",
    kind="contrastive",
    steps=700,
    batch_size=BATCH,
    make=make,
    about="Two views of 64 images of CIFAR-10 at 16 x 16; the loss couples a batch's examples.",
)

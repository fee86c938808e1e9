"""Spoiled images made whole by convolutions."""

import torch
from benchmarks.practice import data
from benchmarks.practice.parts import VALIDATION, epochs, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn

from corridor.data.rng import crop_and_flip, generator


def network() -> nn.Module:
    """Return convolutions down to 4 x 4 with 12 channels, and back."""
    return nn.Sequential(
        *(nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(32, 12, 1), nn.Conv2d(12, 32, 1), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 24, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(24, 3, 4, 2, 1)),
    )


def spoiled(images: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images with noise and without."""
    clean = data.standard(images)
    return clean + torch.randn(clean.shape, generator=g) * 0.3, clean


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def make(seed: int) -> Task:
    images, _, test, _ = data.cifar(16)
    own = generator(VALIDATION, 1)
    batches = (
        spoiled(crop_and_flip(images[part], g, flip=True), g)
        for part, g in epochs(seed, len(images), 32)
    )
    return task(
        seed, network, batches, loss, [spoiled(part, own) for part in test[:2000].split(500)]
    )


problem = Problem(
    name="denoising",
    kind="autoencoder",
    steps=2500,
    batch_size=32,
    make=make,
    about="CIFAR-10 at 16 x 16 with noise; convolutions through 4 x 4 x 12 numbers.",
)

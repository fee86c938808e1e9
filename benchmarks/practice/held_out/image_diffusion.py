"""Small gray photographs out of noise."""

import torch
from benchmarks.practice import data
from benchmarks.practice.networks import UNet, sines
from benchmarks.practice.parts import VALIDATION, epochs, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn

from corridor.data.rng import crop_and_flip, generator


def spoiled(images: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return noisy gray images, sines of their times, and the velocity from image to noise."""
    clean = data.standard(images).mean(1, keepdim=True)
    t, noise = torch.rand(len(clean), generator=g), torch.randn(clean.shape, generator=g)
    share = t[:, None, None, None]
    return (1 - share) * clean + share * noise, sines(t, 16), noise - clean


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    noisy, times, velocity = batch
    return (model(noisy, times) - velocity).square().mean()


def make(seed: int) -> Task:
    images, _, test, _ = data.cifar(16)
    own = generator(VALIDATION, 1)
    batches = (
        spoiled(crop_and_flip(images[part], g, flip=True), g)
        for part, g in epochs(seed, len(images), 32)
    )
    return task(
        seed,
        lambda: UNet(1, 1, 12, extra=16),
        batches,
        loss,
        [spoiled(part, own) for part in test[:2000].split(250)],
    )


problem = Problem(
    name="image_diffusion",
    kind="diffusion",
    steps=700,
    batch_size=32,
    make=make,
    about="CIFAR-10 at 16 x 16 in gray; U-Net of width 12 that predicts the velocity of a flow.",
)

"""Which part of an image was pasted in from another one."""

import torch
from benchmarks.practice import data
from benchmarks.practice.networks import UNet
from benchmarks.practice.parts import VALIDATION, epochs, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from corridor.data.rng import generator


def pasted(images: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images with an ellipse out of the next image, and where it is."""
    shape, along = (2, len(images), 1, 1, 1), torch.arange(16.0)
    places = torch.rand(shape, generator=g) * 10 + 3
    radii = torch.rand(shape, generator=g) * 4 + 2
    rows, columns = (along[:, None] - places[0]) / radii[0], (along - places[1]) / radii[1]
    inside = rows**2 + columns**2 < 1
    mixed = torch.where(inside, images.roll(1, 0), images)
    return data.standard(mixed), inside.float()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return binary_cross_entropy_with_logits(model(batch[0]), batch[1])


def accuracy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the share of pixels that are told right."""
    return ((model(batch[0]) > 0) == batch[1]).float().mean()


def make(seed: int) -> Task:
    images, _, test, _ = data.cifar(16)
    own = generator(VALIDATION, 1)
    return task(
        seed,
        lambda: UNet(3, 1, 12),
        (pasted(images[part], g) for part, g in epochs(seed, len(images), 32)),
        loss,
        [pasted(part, own) for part in test[:1000].split(250)],
        accuracy=accuracy,
    )


problem = Problem(
    name="pasted",
    kind="segmentation",
    steps=700,
    batch_size=32,
    make=make,
    about="CIFAR-10 at 16 x 16 with an ellipse out of another image; U-Net of width 12.",
)

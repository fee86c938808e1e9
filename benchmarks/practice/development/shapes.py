"""Outlines of shapes in noise."""

import torch
from benchmarks.practice.networks import UNet
from benchmarks.practice.parts import entropy, fixed, right, stream, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn
from torch.nn.functional import interpolate

SIZE = 24


class Pixels(nn.Module):
    """A U-Net with its classes on the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.net = UNet(1, 3, 8)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, size, size, classes]."""
        return self.net(images).movedim(1, -1)


def draw(g: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Return images with a disk (class 1) and a square (class 2), and the class of each pixel."""
    along = torch.arange(SIZE)
    places = torch.randint(3, SIZE - 3, (4, count, 1, 1), generator=g)
    radii = torch.randint(3, 7, (2, count, 1, 1), generator=g)
    rows, columns = along[None, :, None], along[None, None, :]
    disk = (rows - places[0]) ** 2 + (columns - places[1]) ** 2 <= radii[0] ** 2
    square = torch.maximum((rows - places[2]).abs(), (columns - places[3]).abs()) <= radii[1]
    classes = torch.where(square, 2, disk.long())
    ground = interpolate(torch.randn(count, 1, 4, 4, generator=g), SIZE, mode="bilinear")
    heights = torch.rand(count, 1, 1, generator=g) + 0.5
    images = ground[:, 0] + heights * (classes > 0)
    return (images + torch.randn(count, SIZE, SIZE, generator=g) * 0.7)[:, None], classes


def make(seed: int) -> Task:
    return task(
        seed,
        Pixels,
        stream(seed, lambda g: draw(g, 16)),
        entropy,
        fixed(lambda g: draw(g, 64), 8),
        accuracy=right,
    )


problem = Problem(
    name="shapes",
    kind="segmentation",
    steps=1500,
    batch_size=16,
    make=make,
    about="Disks and squares in noise, three classes of pixels; U-Net of width 8.",
)

"""A photograph as a function of the place."""

from functools import cache

import numpy as np
import torch
from benchmarks.practice.data import pieces
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import epochs, squared, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn


class Field(nn.Module):
    """Sines of random waves over the picture, and dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("waves", torch.randn(2, 64) * 6)
        self.dense = mlp(128, 96, 96, 96, 3)

    def forward(self, places: Tensor) -> Tensor:
        """Return colors [batch, 3] at the places [batch, 2]."""
        phases = places @ self.waves * torch.pi
        return self.dense(torch.cat((phases.sin(), phases.cos()), 1))


@cache
def pixels() -> tuple[Tensor, Tensor]:
    """Return the places and the colors of a photograph's pixels, 106 x 160, in random order."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image("flower.jpg")).resize(
        (160, 106), Image.Resampling.BOX
    )
    colors = torch.tensor(np.asarray(image)).float().flatten(0, 1) / 128 - 1
    places = torch.cartesian_prod(torch.linspace(-1, 1, 106), torch.linspace(-1, 1, 160))
    order = torch.randperm(len(colors), generator=torch.Generator().manual_seed(0))
    return places[order], colors[order]


def make(seed: int) -> Task:
    places, colors = pixels()
    batches = ((places[part], colors[part]) for part, _ in epochs(seed, len(places), 512))
    held = pieces(places, colors, batch=4240, count=4)
    return task(seed, Field, batches, squared, held, floor=1e-5)


problem = Problem(
    name="picture",
    kind="fitted, large batch",
    steps=4000,
    batch_size=512,
    make=make,
    about="A photograph of scikit-learn as a network of the place: fitted, with slow fine detail.",
)

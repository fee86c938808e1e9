"""Small images out of noise."""

import torch
from benchmarks.practice import data
from benchmarks.practice.networks import mlp, sines
from benchmarks.practice.parts import VALIDATION, epochs, task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn

from corridor.data.rng import generator


class Denoiser(nn.Module):
    """Dense layers that see the noisy pixels and the time."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = mlp(64 + 32, 256, 256, 256, 64, act=nn.SiLU)

    def forward(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Return an estimate of the noise."""
        return self.dense(torch.cat((noisy, sines(t, 32)), 1))


def spoiled(pixels: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return noisy pixels, their times and the noise, along a cosine schedule."""
    t = torch.rand(len(pixels), generator=g)
    noise = torch.randn(pixels.shape, generator=g)
    angle = (t * torch.pi / 2)[:, None]
    return angle.cos() * pixels + angle.sin() * noise, t, noise


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    noisy, t, noise = batch
    return (model(noisy, t) - noise).square().mean()


def make(seed: int) -> Task:
    pixels, _ = data.digits()
    train, test = pixels[:1437], pixels[1437:]
    g = generator(VALIDATION, 1)
    return task(
        seed,
        Denoiser,
        (spoiled(train[part], g) for part, g in epochs(seed, len(train), 128)),
        loss,
        [spoiled(test, g) for _ in range(20)],
    )


problem = Problem(
    name="digit_diffusion",
    kind="diffusion",
    steps=4000,
    batch_size=128,
    make=make,
    about="scikit-learn's digits with fresh noise in each step; dense layers predict the noise.",
)

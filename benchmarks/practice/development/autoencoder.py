"""Small images through a narrow dense network."""

from benchmarks.practice import data
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import task
from benchmarks.practice.problem import Problem, Task
from torch import Tensor, nn


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    pixels = batch[0].flatten(1)
    return (model(pixels) - pixels).square().mean()


def make(seed: int) -> Task:
    images, labels, test, _ = data.cifar(16)
    return task(
        seed,
        lambda: mlp(768, 256, 128, 32, 128, 256, 768, act=nn.GELU),
        data.augmented(seed, images, labels, 64),
        loss,
        data.pieces(data.standard(test[:2000]), batch=500, count=4),
    )


problem = Problem(
    name="autoencoder",
    kind="autoencoder",
    steps=3000,
    batch_size=64,
    make=make,
    about="CIFAR-10 at 16 x 16; six dense layers with 32 numbers in the middle: ill conditioned.",
)

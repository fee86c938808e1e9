"""CIFAR-10 by a vision transformer."""

from functools import partial

from benchmarks.practice import data
from benchmarks.practice.networks import ViT
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    images, labels, test, answers = data.cifar(16)
    return task(
        seed,
        partial(ViT, size=16, patch=4, width=64, layers=3, heads=4),
        data.augmented(seed, images, labels, 64),
        entropy,
        data.pieces(data.standard(test[:2000]), answers[:2000], batch=250, count=8),
        accuracy=right,
    )


problem = Problem(
    name="cifar_vit",
    kind="images, transformer",
    steps=700,
    batch_size=64,
    make=make,
    about="CIFAR-10 at 16 x 16, shifted and mirrored; ViT of 3 blocks: attention without text.",
    long=True,
)

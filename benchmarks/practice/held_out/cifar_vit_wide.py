"""CIFAR-10 by a vision transformer of few, large patches."""

from functools import partial

from benchmarks.practice import data
from benchmarks.practice.networks import ViT
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    images, labels, test, answers = data.cifar(32)
    return task(
        seed,
        partial(ViT, size=32, patch=8, width=96, layers=2, heads=6),
        data.augmented(seed, images, labels, 32),
        entropy,
        data.pieces(data.standard(test[:2000]), answers[:2000], batch=250, count=8),
        accuracy=right,
    )


problem = Problem(
    name="cifar_vit_wide",
    kind="images, transformer",
    steps=900,
    batch_size=32,
    make=make,
    about="CIFAR-10, shifted and mirrored; ViT of 2 blocks of width 96 on patches of 8 x 8.",
)

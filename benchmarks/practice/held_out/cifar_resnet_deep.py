"""CIFAR-10 by a deeper residual network with small batches."""

from functools import partial

from benchmarks.practice import data
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task

from corridor import models


def make(seed: int) -> Task:
    images, labels, test, answers = data.cifar(16)
    network = partial(
        models.build, "resnet14", num_classes=10, in_channels=3, image_size=16, width=12
    )
    return task(
        seed,
        network,
        data.augmented(seed, images, labels, 32),
        entropy,
        data.pieces(data.standard(test[:2000]), answers[:2000], batch=250, count=8),
        accuracy=right,
    )


problem = Problem(
    name="cifar_resnet_deep",
    kind="images, convolutions",
    steps=700,
    batch_size=32,
    make=make,
    about="CIFAR-10 at 16 x 16, shifted and mirrored; ResNet-14 of width 12, batch normalization.",
    long=True,
)

"""CIFAR-10 by a residual network with batch normalization."""

from functools import partial

from benchmarks.practice import data
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task

from corridor import models


def make(seed: int) -> Task:
    images, labels, test, answers = data.cifar(16)
    network = partial(
        models.build, "resnet8", num_classes=10, in_channels=3, image_size=16, width=16
    )
    return task(
        seed,
        network,
        data.augmented(seed, images, labels, 128),
        entropy,
        data.pieces(data.standard(test[:2000]), answers[:2000], batch=250, count=8),
        accuracy=right,
    )


problem = Problem(
    name="cifar_resnet",
    kind="images, convolutions",
    steps=400,
    batch_size=128,
    make=make,
    about="CIFAR-10 at 16 x 16, shifted and mirrored; ResNet-8 with batch normalization.",
)

"""CIFAR-10 with wrong labels by a plain convolutional network."""

import torch
from benchmarks.practice import data
from benchmarks.practice.networks import convolutions
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    images, labels, test, answers = data.cifar(16)
    g = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=g) < 0.4
    given = torch.where(wrong, torch.randint(10, labels.shape, generator=g), labels)
    return task(
        seed,
        lambda: convolutions((3, 32, 64, 64), 10),
        data.augmented(seed, images, given, 64),
        entropy,
        data.pieces(data.standard(test[:2000]), answers[:2000], batch=250, count=8),
        accuracy=right,
    )


problem = Problem(
    name="wrong_labels",
    kind="wrong labels",
    steps=1000,
    batch_size=64,
    make=make,
    about="CIFAR-10 at 16 x 16, 40 % of labels drawn at random; validation has true labels.",
)

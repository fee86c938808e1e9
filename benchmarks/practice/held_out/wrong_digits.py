"""Shifted digits with wrong labels by dense layers."""

import torch
from benchmarks.practice import data
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import entropy, epochs, right, task
from benchmarks.practice.problem import Problem, Task

from corridor.data.rng import crop_and_flip


def make(seed: int) -> Task:
    pixels, labels = data.digits()
    images, count = pixels.view(-1, 1, 8, 8), 1400
    g = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=g) < 0.3
    given = torch.where(wrong, torch.randint(10, labels.shape, generator=g), labels)
    batches = (
        (crop_and_flip(images[part], g, flip=False).flatten(1), given[part])
        for part, g in epochs(seed, count, 16)
    )
    held = [(pixels[count:], labels[count:])]
    return task(seed, lambda: mlp(64, 256, 256, 10), batches, entropy, held, accuracy=right)


problem = Problem(
    name="wrong_digits",
    kind="wrong labels",
    steps=5000,
    batch_size=16,
    make=make,
    about="scikit-learn's digits, shifted, 30 % of training labels drawn at random; dense layers.",
)

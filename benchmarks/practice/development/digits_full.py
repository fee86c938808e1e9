"""Random labels of digits, learned by heart with all digits in each step."""

from itertools import repeat

import torch
from benchmarks.practice.data import digits
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    labels = torch.randint(10, (512,), generator=torch.Generator().manual_seed(0))
    batch = digits()[0][:512], labels
    return task(
        seed,
        lambda: mlp(64, 128, 128, 10),
        repeat(batch),
        entropy,
        [batch],
        accuracy=right,
        floor=1e-3,
    )


problem = Problem(
    name="digits_full",
    kind="fitted, full batch",
    steps=600,
    batch_size=512,
    make=make,
    about="512 digits of scikit-learn with random labels, all in each step; training loss counts.",
)

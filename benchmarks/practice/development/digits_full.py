"""All training digits in each step."""

from itertools import repeat

from benchmarks.practice.data import digits
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    pixels, labels = digits()
    return task(
        seed,
        lambda: mlp(64, 64, 64, 10),
        repeat((pixels[:512], labels[:512])),
        entropy,
        [(pixels[512:], labels[512:])],
        accuracy=right,
    )


problem = Problem(
    name="digits_full",
    kind="fitted, full batch",
    steps=2000,
    batch_size=512,
    make=make,
    about="512 digits of scikit-learn, all in each step; dense layers that fit them all.",
)

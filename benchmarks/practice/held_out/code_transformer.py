"""Next byte pairs of Python code by a transformer."""

from functools import partial

from benchmarks.practice import data
from benchmarks.practice.networks import Transformer
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    train, test, vocabulary = data.byte_pairs("code", 384)
    network = partial(Transformer, vocabulary, context=48, width=64, layers=2, heads=4)
    batches = data.reading(seed, train, 32, 48)
    return task(seed, network, batches, entropy, data.spread(test, 64, 48, 10), accuracy=right)


problem = Problem(
    name="code_transformer",
    kind="language, transformer",
    steps=800,
    batch_size=32,
    make=make,
    about="Sources of sympy, 384 byte pairs; GPT of 2 blocks of width 64: a model of code.",
    long=True,
)

"""Next characters of Python code by a recurrent network."""

from functools import partial

from benchmarks.practice import data
from benchmarks.practice.networks import Recurrent
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    train, test, vocabulary = data.characters("code")
    network = partial(Recurrent, vocabulary, width=32, hidden=128, lstm=True)
    batches = data.reading(seed, train, 16, 48)
    return task(seed, network, batches, entropy, data.spread(test, 64, 48, 10), accuracy=right)


problem = Problem(
    name="char_lstm",
    kind="language, recurrent",
    steps=1500,
    batch_size=16,
    make=make,
    about="Sources of sympy, characters; LSTM of 128 cells over 48 steps.",
)

"""Next words of English by a recurrent network."""

from functools import partial

from benchmarks.practice import data
from benchmarks.practice.networks import Recurrent
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    train, test, vocabulary = data.words("english", 2000)
    network = partial(Recurrent, vocabulary, width=64, hidden=96)
    batches = data.reading(seed, train, 32, 24)
    return task(seed, network, batches, entropy, data.spread(test, 64, 24, 12), accuracy=right)


problem = Problem(
    name="word_gru",
    kind="language, recurrent",
    steps=700,
    batch_size=32,
    make=make,
    about="English Bible, 2,000 words; GRU of 96 cells: many rare classes, no normalization.",
)

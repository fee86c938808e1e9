"""Next words of English by a transformer with small batches."""

from functools import partial

from benchmarks.practice import data
from benchmarks.practice.networks import Transformer
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    train, test, vocabulary = data.words("english", 1500)
    network = partial(Transformer, vocabulary, context=32, width=48, layers=2, heads=4)
    batches = data.reading(seed, train, 16, 32)
    return task(seed, network, batches, entropy, data.spread(test, 64, 32, 10), accuracy=right)


problem = Problem(
    name="word_transformer",
    kind="language, transformer",
    steps=1200,
    batch_size=16,
    make=make,
    about="English Bible, 1,500 words; GPT of 2 blocks of width 48: rare words, small batches.",
)

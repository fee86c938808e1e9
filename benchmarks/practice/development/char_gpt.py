"""Next characters of English by a transformer."""

from functools import partial

from benchmarks.practice import data
from benchmarks.practice.networks import Transformer
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    train, test, vocabulary = data.characters("english")
    network = partial(Transformer, vocabulary, context=64, width=64, layers=3, heads=4)
    batches = data.reading(seed, train, 16, 64)
    return task(seed, network, batches, entropy, data.spread(test, 64, 64, 12), accuracy=right)


problem = Problem(
    name="char_gpt",
    kind="language, transformer",
    steps=800,
    batch_size=16,
    make=make,
    about="English Bible, characters; GPT of 3 blocks of width 64: a language model in small.",
    long=True,
)

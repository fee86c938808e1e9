"""A language model of code that learns English by parts of low rank."""

from benchmarks.practice import data
from benchmarks.practice.networks import Transformer, adapted
from benchmarks.practice.parts import entropy, right, task, trained
from benchmarks.practice.problem import Problem, Task


def base() -> Transformer:
    """Return the network before training."""
    return Transformer(96, context=64, width=64, layers=3, heads=4)


def make(seed: int) -> Task:
    code, _, _ = data.characters("code")
    weights = trained("lora_base_2", base, data.reading(0, code, 16, 64), entropy, 800)

    def network() -> Transformer:
        model = base()
        model.load_state_dict(weights)
        return adapted(model, rank=4)

    train, test, _ = data.characters("english")
    return task(
        seed,
        network,
        data.reading(seed, train, 16, 64),
        entropy,
        data.spread(test, 64, 64, 12),
        accuracy=right,
    )


problem = Problem(
    name="lora",
    kind="fine-tuning",
    steps=700,
    batch_size=16,
    make=make,
    about="GPT trained on Python code, then on English by adapters of rank 4: few trained weights.",
)

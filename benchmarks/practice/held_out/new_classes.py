"""A network of five classes of CIFAR-10 that learns the other five from few images."""

from benchmarks.practice import data
from benchmarks.practice.networks import convolutions
from benchmarks.practice.parts import entropy, right, task, trained
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    images, labels, test, answers = data.cifar(16)
    old, new, late = labels < 5, (labels >= 5).nonzero()[:4000, 0], answers >= 5
    weights = trained(
        "new_classes_base_1",
        lambda: convolutions((3, 32, 64, 64), 5),
        data.augmented(0, images[old], labels[old], 64),
        entropy,
        1200,
    )

    def network():
        model = convolutions((3, 32, 64, 64), 5)
        fresh = model[-1].state_dict(prefix=f"{len(model) - 1}.")  # the head is made again
        model.load_state_dict(weights | fresh)
        return model

    held = data.standard(test[late][:2000]), answers[late][:2000] - 5
    return task(
        seed,
        network,
        data.augmented(seed, images[new], labels[new] - 5, 32),
        entropy,
        data.pieces(*held, batch=250, count=8),
        accuracy=right,
    )


problem = Problem(
    name="new_classes",
    kind="fine-tuning",
    steps=1000,
    batch_size=32,
    make=make,
    about="A network trained on five classes learns the other five from 4,000 images; all weights.",
)

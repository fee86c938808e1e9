"""All rows of a small table in each step."""

from itertools import repeat

import torch
from benchmarks.practice.networks import mlp
from benchmarks.practice.parts import entropy, right, task
from benchmarks.practice.problem import Problem, Task


def make(seed: int) -> Task:
    from sklearn.datasets import load_breast_cancer

    rows, answers = load_breast_cancer(return_X_y=True)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(rows).float()[order], torch.tensor(answers)[order]
    x = (x - x.mean(0)) / x.std(0)
    return task(
        seed,
        lambda: mlp(30, 32, 32, 2),
        repeat((x[:300], y[:300])),
        entropy,
        [(x[:300], y[:300])],
        accuracy=lambda model, _: right(model, (x[300:], y[300:])),
        floor=1e-3,
    )


problem = Problem(
    name="cancer_full",
    kind="fitted, full batch",
    steps=250,
    batch_size=300,
    make=make,
    about="300 rows of scikit-learn's breast cancer data, all in each step; training loss counts.",
)

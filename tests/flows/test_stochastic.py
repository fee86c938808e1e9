"""Test SGD over batches, in one order and on average over orders."""

from __future__ import annotations

import pytest
import torch

from corridor.flows import gradient_descent, mean_epoch, stochastic_descent
from corridor.surfaces import Quadratic, Rosenbrock

START = torch.tensor([3.0, 4.0], dtype=torch.float64)
ROSEN = Rosenbrock(1.0)


def test_sgd_over_one_batch_is_gradient_descent_and_orders_matter():
    one = stochastic_descent([ROSEN], START / 10, 0.01, epochs=3)
    torch.testing.assert_close(one.points, gradient_descent(ROSEN, START / 10, 0.01, 3).points)
    losses = [ROSEN, Quadratic()]
    forth = stochastic_descent(losses, START / 10, 0.1).end
    back = stochastic_descent(losses, START / 10, 0.1, order=[1, 0]).end
    assert float((forth - back).norm()) > 1e-4
    torch.testing.assert_close(mean_epoch(losses, START / 10, 0.1), (forth + back) / 2)
    some = mean_epoch(losses, START / 10, 0.1, permutations=400, seed=1)
    assert float((some - (forth + back) / 2).norm()) < float((forth - back).norm()) / 8


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stochastic_descent([], START), "permutation of 0 batches"),
        (lambda: stochastic_descent([ROSEN], START, order=[1]), "permutation of 1 batches"),
        (lambda: mean_epoch([ROSEN] * 9, START), "permutations must be given for more than 8"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)

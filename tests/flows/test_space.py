"""Test losses on flat vectors: derivatives, their cost, and the shapes of points."""

from __future__ import annotations

import torch

from corridor.flows.space import FlatLoss, starting_at
from corridor.surfaces import Quadratic

MATRIX = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
START = torch.tensor([3.0, 4.0], dtype=torch.float64)


def test_a_product_with_the_hessian_costs_two_gradients():
    flat_loss = starting_at(Quadratic(MATRIX), START)
    g, product = flat_loss.product(START)
    torch.testing.assert_close(g, MATRIX @ START)
    torch.testing.assert_close(product(g), MATRIX @ g)
    torch.testing.assert_close(product(START), MATRIX @ START)
    assert flat_loss.gradients == 1 + 2 + 2


def test_a_linear_loss_has_the_product_zero():
    _, product = starting_at(lambda x: x.sum(), START).product(START)
    assert not product(START).any()


def test_a_list_of_tensors_returns_from_its_flat_vector():
    point = [START.reshape(2, 1), START.new_tensor([5.0])]
    space = FlatLoss(lambda x: x, point)
    assert space.start.tolist() == [3.0, 4.0, 5.0]
    assert all(torch.equal(a, b) for a, b in zip(space.unpack(space.start), point, strict=True))

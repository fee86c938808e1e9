"""Compare lambda_max with dense Hessians, and count the products of a warm start."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from tests.geometry import oracle
from tests.geometry.networks import case
from torch import Tensor, nn

from corridor.geometry import sharpness


@pytest.mark.parametrize("name", ["dropout", "attention"])
def test_it_is_the_largest_eigenvalue_of_the_dense_hessian(name: str):
    twin = case(name).double()
    params = list(twin.model.parameters())
    hessian = oracle.dense_hessian(twin.closure, params, list(twin.model.buffers()))
    values, vectors = torch.linalg.eigh((hessian + hessian.T) / 2)
    torch.manual_seed(0)
    found = sharpness(twin.closure, params, tolerance=1e-6)
    assert found.converged
    # The error is at most residual^2 over the relative gap to the next eigenvalue.
    assert found.value == pytest.approx(float(values[-1]), rel=1e-9)
    assert abs(float(oracle.flat(found.vector) @ vectors[:, -1])) == pytest.approx(1.0, abs=1e-9)
    torch.manual_seed(0)
    rough = sharpness(twin.closure, params)
    error = abs(rough.value - float(values[-1])) / float(values[-1])
    assert error <= rough.residual <= 0.01
    assert rough.products <= 42
    torch.manual_seed(0)
    narrow = case(name)
    assert sharpness(narrow.closure, narrow.model).value == pytest.approx(
        found.value, rel=oracle.rounding(1e4, torch.float32)
    )


def quadratic(scales: Tensor):
    x = nn.Parameter(torch.linspace(1.0, 2.0, len(scales), dtype=torch.float64))
    return x, lambda: 0.5 * (scales * x * x).sum()


def test_with_few_products_a_warm_start_is_closer():
    x, closure = quadratic(torch.logspace(-3, 1, 60, dtype=torch.float64))
    few = sharpness(closure, [x], max_products=4)
    vector = sharpness(closure, [x]).vector
    warm = sharpness(closure, [x], start=vector, max_products=4)
    assert few.value < warm.value <= 10.0


SPECTRA = {
    "evenly spaced": torch.linspace(0.1, 1.0, 50),
    "dense below the top": torch.linspace(0.1, 1.0, 2000),
    "apart": torch.cat([torch.linspace(-0.1, 0.1, 3000), torch.tensor([4.8, 4.9, 5.0])]),
    "negative": torch.linspace(-9.0, -2.0, 30),
}


@pytest.mark.parametrize("room", [None, 0])
@pytest.mark.parametrize("max_products", [2, 8, 40, 200])
@pytest.mark.parametrize("name", SPECTRA)
def test_converged_means_the_largest(name: str, max_products: int, room, monkeypatch):
    """The value is a lower bound and `bound` an upper one, also where memory holds 12 vectors."""
    if room is not None:
        monkeypatch.setattr(sys.modules["corridor.geometry.sharpness"], "ROOM", room)
    scales = SPECTRA[name].double()
    x, closure = quadratic(scales)
    found, largest = sharpness(closure, [x], max_products=max_products), float(scales.max())
    assert found.products <= max_products
    assert found.value <= largest + oracle.rounding(1e4)
    assert found.bound >= largest - oracle.rounding(1e4)
    assert not found.converged or found.value >= largest - 0.01 * abs(largest)
    assert found.converged or max_products < 200


def test_a_small_residual_alone_is_not_convergence():
    x, closure = quadratic(torch.linspace(0.1, 1.0, 400).double())
    found = sharpness(closure, [x], tolerance=1e-2, max_products=28)
    assert found.residual < 1e-2 < found.bound - found.value
    assert not found.converged


def test_a_start_at_the_second_eigenvector_and_a_gradient_in_one_block_hide_nothing():
    x, closure = quadratic(torch.cat([torch.linspace(0.0, 1.0, 40), torch.tensor([1.24])]).double())
    with torch.no_grad():
        x[-1] = 0.0  # no part of the gradient
    second = torch.zeros_like(x, requires_grad=False)
    second[-2] = 1.0
    for start in (None, [second]):
        found = sharpness(closure, [x], start=start)
        assert found.converged
        assert found.value == pytest.approx(1.24, rel=0.01)


@pytest.mark.parametrize("n", [1, 3, 8, 9, 10])
def test_few_parameters(n: int):
    x, closure = quadratic(torch.arange(1.0, n + 1.0, dtype=torch.float64))
    found = sharpness(closure, [x], tolerance=1e-6)
    assert found.value == pytest.approx(n, rel=1e-9)
    assert found.corridor_horizon == pytest.approx(1 / n)
    assert found.stability_gap(2 / n) == pytest.approx(0.0, abs=1e-8)


def test_it_is_the_largest_not_the_largest_in_size():
    x, closure = quadratic(torch.linspace(-9.0, 2.0, 30, dtype=torch.float64))
    assert sharpness(closure, [x], tolerance=1e-4).value == pytest.approx(2.0, rel=1e-6)
    x, closure = quadratic(torch.linspace(-9.0, -2.0, 30, dtype=torch.float64))
    found = sharpness(closure, [x], tolerance=1e-4)
    assert found.value == pytest.approx(-2.0, rel=1e-6)
    assert found.corridor_horizon == math.inf


def test_a_flat_loss_and_a_loss_at_its_minimum():
    x = nn.Parameter(torch.ones(20))
    assert sharpness(lambda: x.sum(), [x]).value == 0.0
    x = nn.Parameter(torch.zeros(20))  # no gradient to begin with
    assert sharpness(lambda: 1.5 * x.square().sum(), [x]).value == pytest.approx(3.0, rel=1e-5)


def test_a_gradient_without_a_part_in_the_top_direction_does_not_hide_it():
    scales = torch.ones(20, dtype=torch.float64)
    scales[-1] = 10.0
    x, closure = quadratic(scales)
    with torch.no_grad():
        x[-1] = 0.0
    assert sharpness(closure, [x]).value == pytest.approx(10.0, rel=1e-3)


def test_frozen_and_complex_parameters():
    x, z = nn.Parameter(torch.ones(12)), nn.Parameter(torch.ones(6, dtype=torch.complex64))
    frozen = torch.ones(5)

    def closure() -> Tensor:
        return (x.square().sum() + 2 * z.abs().square().sum()) * frozen.mean()

    found = sharpness(closure, [x, frozen, z])
    assert found.value == pytest.approx(4.0, rel=1e-5)
    assert [v.dtype for v in found.vector] == [x.dtype, x.dtype, z.dtype]


def test_what_does_not_converge_says_so():
    x, closure = quadratic(1 + torch.logspace(-6, -3, 400, dtype=torch.float64))
    found = sharpness(closure, [x], tolerance=1e-9, max_products=20)
    assert not found.converged
    assert found.residual > 1e-9
    assert found.value == pytest.approx(1.0, abs=2e-3)


def test_wrong_input_is_one_clear_line():
    x, closure = quadratic(torch.ones(20, dtype=torch.float64))
    with pytest.raises(ValueError, match="tolerance must be between"):
        sharpness(closure, [x], tolerance=0.0)
    with pytest.raises(ValueError, match="loss must be finite, got nan"):
        sharpness(lambda: closure() * float("nan"), [x])
    assert math.isnan(sharpness(lambda: closure() * float("nan"), [x], allow_nonfinite=True).value)
    bag = nn.EmbeddingBag(6, 5)
    with pytest.raises(ValueError, match="no products with its Hessian"):
        sharpness(lambda: bag(torch.tensor([[0, 1]])).square().sum(), bag)

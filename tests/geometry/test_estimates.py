"""Compare estimates from logs and gradients with the exact numbers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from tests.geometry import oracle
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from corridor.geometry import jet, measure, rho_parallel_from_logs, secant


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 4.0])
def test_the_slope_is_exact_for_powers(p: float):
    x = [0.5**k for k in range(8)]
    found = rho_parallel_from_logs([v**p + 3.0 for v in x], [p * v ** (p - 1) for v in x], f_star=3)
    assert found == pytest.approx([(p - 1) / (2 * p)] * 8, abs=oracle.rounding(1e7))


def smooth_network() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return model, torch.randn(60, 5, dtype=torch.float64), torch.randint(0, 3, (60,))


def descent(step: float, steps: int) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return loss, ``||g||``, rho_parallel and the secant's error along full-batch descent."""
    model, x, y = smooth_network()
    params = list(model.parameters())
    rows: list[tuple[float, float, float, float]] = []
    before = None
    for _ in range(steps):
        found = jet(lambda: cross_entropy(model(x), y), params)
        exact = measure(lambda: cross_entropy(model(x), y), params)
        error = math.nan
        if before is not None:
            product = oracle.flat(secant(before.gradient, found.gradient, step))
            error = oracle.relative_error([product], oracle.flat(before.hessian_gradient))
        rows.append((exact.loss.item(), *map(float, (exact.grad_norm, exact.rho_parallel)), error))
        before = found
        with torch.no_grad():
            for p, g in zip(params, found.gradient, strict=True):
                p.sub_(step * g)
    loss, norm, rho, error = (list(column) for column in zip(*rows, strict=True))
    return loss, norm, rho, error


def test_the_slope_follows_rho_parallel_along_descent():
    loss, norm, rho, _ = descent(0.1, 40)
    found = rho_parallel_from_logs(loss, norm, window=3)
    worst = max(abs(a - b) for a, b in zip(found[1:-1], rho[1:-1], strict=True))
    assert worst < 0.03 * max(map(abs, rho))


def test_the_free_secant_is_of_first_order():
    errors = [descent(h, 2)[3][1] for h in (0.2, 0.1, 0.05)]
    assert errors[0] < 0.2
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders == pytest.approx([1.0, 1.0], abs=0.1)


def test_gaps_and_wrong_input():
    found = rho_parallel_from_logs([1.0, math.nan, 0.5, -1.0], [1.0, 1.0, 0.8, 1.0], window=3)
    assert math.isfinite(found[1])
    assert math.isnan(rho_parallel_from_logs([1.0, 1.0], [1.0, 2.0])[0])  # the loss stands still
    assert rho_parallel_from_logs([], []) == []
    with pytest.raises(ValueError, match="one entry per loss"):
        rho_parallel_from_logs([1.0], [])
    with pytest.raises(ValueError, match="window must be"):
        rho_parallel_from_logs([1.0], [1.0], window=1)

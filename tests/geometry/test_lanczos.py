"""Compare Lanczos' method with dense eigenvalues, also on spaces that end early."""

from __future__ import annotations

import pytest
import torch
from tests.geometry import oracle
from torch import Tensor

from corridor.geometry.lanczos import function_times, lanczos, spaces, top_curvature, upper_bound

EXACT = oracle.rounding(1e6)


def matrix(values: list[float]) -> Tensor:
    """Return a symmetric matrix with these eigenvalues."""
    n = len(values)
    generator = torch.Generator().manual_seed(n)
    rotation = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    return rotation @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ rotation.T


def test_a_full_space_is_the_whole_matrix():
    H = matrix([-3.0, -1.0, 0.5, 2.0, 7.0])
    start = torch.ones(5, dtype=torch.float64)
    V, T = lanczos(lambda v: H @ v, start, 9)  # at most five
    assert torch.allclose(V @ T @ V.T, H, rtol=EXACT, atol=EXACT)
    assert torch.allclose(V.T @ V, torch.eye(5).double(), rtol=EXACT, atol=EXACT)
    assert top_curvature(lambda v: H @ v, start) == pytest.approx(7.0, rel=EXACT)
    exact = torch.linalg.matrix_exp(H) @ start
    found = function_times(lambda v: H @ v, start, torch.exp)
    assert torch.allclose(found, exact, rtol=EXACT, atol=EXACT * float(exact.norm()))


def test_the_space_ends_with_the_number_of_distinct_eigenvalues():
    H = matrix([1.0, 1.0, 1.0, 4.0, 4.0])
    _, T = lanczos(lambda v: H @ v, torch.ones(5, dtype=torch.float64), 5)
    assert len(T) == 2
    _, T = lanczos(torch.zeros_like, torch.ones(5), 5)
    assert T.tolist() == [[0.0]]


def test_the_upper_bound_is_the_root_of_the_polynomial():
    a, b, c = 2.0, 0.5, 0.01  # p_1(t) = (t - a) / b
    found = upper_bound(torch.tensor([[a]]), torch.tensor([b]), c)
    assert found == pytest.approx(a + b / c)
    H, start = matrix([-3.0, 0.5, 2.0, 6.9, 7.0]), torch.ones(5, dtype=torch.float64)
    part = float((start @ torch.linalg.eigh(H)[1][:, -1]).abs() / start.norm())
    bounds = [upper_bound(T, b, part) for _, T, b in spaces(lambda v: H @ v, start, 5)]
    assert min(bounds) >= 7.0 - EXACT
    assert bounds[-1] == pytest.approx(7.0, rel=1e-3)


def test_three_vectors_are_enough_for_the_tridiagonal_matrix():
    H, start = matrix([float(i) for i in range(12)]), torch.ones(12, dtype=torch.float64)
    runs = (spaces(lambda v: H @ v, start, 8, held=held) for held in (None, 3))
    for (_, T, b), (_, T3, b3) in zip(*runs, strict=True):
        assert torch.allclose(T, T3, rtol=EXACT, atol=EXACT)
        assert torch.allclose(b, b3, rtol=EXACT, atol=EXACT)


def test_a_start_of_zeros_is_replaced():
    assert top_curvature(lambda v: 3.0 * v, torch.zeros(4).double()) == pytest.approx(
        3.0, rel=EXACT
    )
    assert function_times(lambda v: v, torch.zeros(4), torch.exp).tolist() == [0.0] * 4

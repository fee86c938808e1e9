"""Batch normalisation by its formula: values, statistics and second derivatives are torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from corridor.geometry.formulas.batch_norm import batch_norm


def arguments(shape: tuple[int, ...], affine: bool = True) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + 1
    n = shape[1]
    gamma = torch.linspace(-1.0, 1.0, n, dtype=torch.float64) if affine else None  # one is 0
    beta = torch.linspace(0.0, 2.0, n, dtype=torch.float64) if affine else None
    return [x, torch.zeros(n).double(), torch.ones(n).double(), gamma, beta]


def twice(function, inputs: list[Tensor | None], training: bool) -> list[Tensor]:
    """Value, gradients, gradients of a function of the gradients, running statistics."""
    x, mean, var, gamma, beta = (None if t is None else t.clone() for t in inputs)
    leaves = [t.requires_grad_() for t in (x, gamma, beta) if t is not None]
    y = function(x, mean, var, gamma, beta, training, 0.1, 1e-5)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    first = torch.autograd.grad((weights * y + 0.1 * y**3).sum(), leaves, create_graph=True)
    mixed = sum((g * torch.cos(g.detach())).sum() for g in first)
    assert isinstance(mixed, Tensor)
    second = torch.autograd.grad(mixed, leaves)
    assert mean is not None
    assert var is not None
    return [y, *first, *second, mean, var]


@pytest.mark.parametrize("shape", [(6, 3), (5, 3, 4), (4, 3, 2, 2), (2, 3, 2, 2, 2)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_it_is_torchs_batch_norm(shape: tuple[int, ...], training: bool, affine: bool):
    found = twice(batch_norm, arguments(shape, affine), training)
    expected = twice(functional.batch_norm, arguments(shape, affine), training)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_it_leaves_other_cases_to_torch():
    x, mean, var, gamma, beta = arguments((4, 3))
    assert x is not None
    assert batch_norm(x.half(), mean, var, gamma, beta, True) is NotImplemented
    assert batch_norm(x.float(), mean, var, gamma, beta, True) is NotImplemented
    assert batch_norm(x[:1], mean, var, gamma, beta, True) is NotImplemented  # torch raises
    assert batch_norm(x, None, None, gamma, beta, False) is NotImplemented


def test_channels_last_is_served():
    inputs = arguments((4, 3, 2, 2))
    x = inputs[0]
    assert x is not None
    strided = [x.to(memory_format=torch.channels_last), *inputs[1:]]
    pairs = zip(twice(batch_norm, strided, True), twice(batch_norm, inputs, True), strict=True)
    assert all(torch.allclose(a, b) for a, b in pairs)

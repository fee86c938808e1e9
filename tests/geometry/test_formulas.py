"""Compare layers by formulas with torch: values, first and second derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.geometry import oracle
from torch import Tensor
from torch.nn import functional

from corridor.geometry.formulas import attention, batch_norm, gelu, layer_norm


def twice(function: Callable[..., Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """Return value, gradients, and gradients of a function of the gradients."""
    leaves = [t.clone().requires_grad_() for t in leaves]
    y = function(*leaves)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    first = torch.autograd.grad((weights * y + 0.1 * y**3).sum(), leaves, create_graph=True)
    mixed = sum((g * torch.cos(g.detach())).sum() for g in first)
    assert isinstance(mixed, Tensor)
    return [y, *first, *torch.autograd.grad(mixed, leaves)]


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(
        torch.allclose(a, b, rtol=oracle.rounding(1e6), atol=oracle.rounding(1e6)) for a, b in pairs
    )


def randn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.2


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (6,)])
def test_layer_norm(shape: tuple[int, ...]):
    leaves = [randn(*shape), torch.linspace(-1, 1, 6, dtype=torch.float64), randn(6)]
    found = twice(lambda x, w, b: layer_norm(x, (6,), w, b), leaves)
    assert same(found, twice(lambda x, w, b: functional.layer_norm(x, (6,), w, b), leaves))


def test_layer_norm_over_two_dimensions():
    leaves = [randn(5, 2, 3), randn(2, 3), randn(2, 3)]
    found = twice(lambda x, w, b: layer_norm(x, (2, 3), w, b, 1e-3), leaves)
    expected = twice(lambda x, w, b: functional.layer_norm(x, (2, 3), w, b, 1e-3), leaves)
    assert same(found, expected)


def test_gelu():
    x = [torch.linspace(-6, 6, 50, dtype=torch.float64)]
    assert same(twice(gelu, x), twice(functional.gelu, x))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention(causal: bool, scale: float | None):
    leaves = [randn(2, 3, n, 4) for n in (5, 7, 7)]
    found = twice(lambda q, k, v: attention(q, k, v, None, 0.0, causal, scale), leaves)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)

    assert same(found, twice(plain, leaves))


def test_torch_computes_other_cases():
    x, mask = randn(4, 6), torch.zeros(5, 7)
    q, k, v = (randn(2, 3, n, 4) for n in (5, 7, 7))
    assert layer_norm(x.half(), (6,)) is NotImplemented
    assert layer_norm(x.half(), (6,), randn(6).half(), randn(6).half()) is NotImplemented
    assert gelu(x, approximate="tanh") is NotImplemented
    assert gelu(x.bfloat16()) is NotImplemented
    assert attention(q, k, v, mask) is NotImplemented
    assert attention(q, k, v, None, 0.1) is NotImplemented


def batch_norm_arguments(shape: tuple[int, ...], affine: bool = True) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + 1
    n = shape[1]
    gamma = torch.linspace(-1.0, 1.0, n, dtype=torch.float64) if affine else None  # one is 0
    beta = torch.linspace(0.0, 2.0, n, dtype=torch.float64) if affine else None
    return [x, torch.zeros(n).double(), torch.ones(n).double(), gamma, beta]


def batch_norm_twice(function, inputs: list[Tensor | None], training: bool) -> list[Tensor]:
    """Return value, gradients, gradients of a function of the gradients, running statistics."""
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


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 2, 2)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape: tuple[int, ...], training: bool, affine: bool):
    found = batch_norm_twice(batch_norm, batch_norm_arguments(shape, affine), training)
    expected = batch_norm_twice(
        functional.batch_norm, batch_norm_arguments(shape, affine), training
    )
    assert same(found, expected)


def test_torch_computes_other_cases_of_batch_norm():
    x, mean, var, gamma, beta = batch_norm_arguments((4, 3))
    assert x is not None
    assert batch_norm(x.half(), mean, var, gamma, beta, True) is NotImplemented
    assert batch_norm(x.float(), mean, var, gamma, beta, True) is NotImplemented
    assert batch_norm(x[:1], mean, var, gamma, beta, True) is NotImplemented  # torch raises
    assert batch_norm(x, None, None, gamma, beta, False) is NotImplemented


def test_batch_norm_of_channels_last():
    inputs = batch_norm_arguments((4, 3, 2, 2))
    x = inputs[0]
    assert x is not None
    strided = [x.to(memory_format=torch.channels_last), *inputs[1:]]
    pairs = zip(
        batch_norm_twice(batch_norm, strided, True),
        batch_norm_twice(batch_norm, inputs, True),
        strict=True,
    )
    assert all(torch.allclose(a, b) for a, b in pairs)

"""Measure losses that contain derivatives: gradient penalties and the residuals of PINNs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.geometry import oracle
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from corridor.geometry import jet, measure_dataset, sharpness

KINDS = ("gelu", "layer norm", "bare layer norm", "batch norm")
X = torch.linspace(-1.5, 2.0, 12, dtype=torch.float64).view(6, 2).sin()


def derivative(y: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(y.sum(), x, create_graph=True)[0]


class Net(nn.Module):
    """Compute one layer by torch, or by operations with right derivatives of every order."""

    def __init__(self, kind: str, *, plain: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(2, 4).double(), nn.Linear(4, 1).double()
        self.gamma = nn.Parameter(torch.linspace(0.5, 1.5, 4, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(4, dtype=torch.float64))
        self.kind, self.plain = kind, plain

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(self.middle(torch.tanh(self.first(x)))))

    def middle(self, x: Tensor) -> Tensor:
        if self.kind == "gelu":
            x = x * self.gamma
            return x * torch.special.ndtr(x) if self.plain else functional.gelu(x)
        gamma = None if self.kind.startswith("bare") else self.gamma
        if self.plain:
            dim = 0 if self.kind == "batch norm" else 1
            apart = x - x.mean(dim, keepdim=True)
            y = apart / (apart.square().mean(dim, keepdim=True) + 1e-5).sqrt()
            return y if gamma is None else y * gamma
        if self.kind == "batch norm":
            beta = torch.zeros_like(self.gamma)
            mean, var = self.mean, torch.ones_like(self.mean)
            return functional.batch_norm(x, mean, var, gamma, beta, True)
        return functional.layer_norm(x, (4,), gamma)


def penalty(model: Any, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return (derivative(model(x), x).square().sum(1) - 1.0).square().mean()


def laplacian(model: Any, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    u = derivative(model(x), x)
    return sum((derivative(u[:, i], x)[:, i] for i in range(2)), -torch.ones(())).square().mean()


def curvature(model: Any, x: Tensor) -> Tensor:
    """Return the second derivative by a layer's inputs, which torch computes without cotangents."""
    inside = torch.tanh(model.first(x))
    return derivative(derivative(model.middle(inside), inside), inside).square().mean()


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    a, b = oracle.flat(found), oracle.flat(expected)
    return bool((a - b).norm() <= oracle.rounding(1e6) * b.norm())


@pytest.mark.parametrize("loss", [penalty, laplacian, curvature])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_and_product_are_those_of_plain_operations(
    kind: str, loss: Callable[[Any, Tensor], Tensor]
):
    model, plain = Net(kind), Net(kind, plain=True)
    expected = jet(lambda: loss(plain, X), plain, engine="double_backward")
    for engine in ("auto", "double_backward", "forward_over_reverse"):
        found = jet(lambda: loss(model, X), model, engine=engine)
        assert same(found.gradient, expected.gradient)
        assert same(found.hessian_gradient, expected.hessian_gradient)
    found = jet(lambda: loss(model, X), model, engine="central_differences")
    assert same(found.gradient, expected.gradient)
    a, b = (oracle.flat(j.hessian_gradient) for j in (found, expected))
    assert (a - b).norm() <= oracle.differencing() * b.norm()
    assert not model.mean.any()


@pytest.mark.parametrize("kind", KINDS)
def test_sharpness_and_measure_dataset_take_a_gradient_penalty(kind: str):
    model, plain = Net(kind), Net(kind, plain=True)
    tops = [sharpness(lambda m=m: penalty(m, X), m).value for m in (model, plain)]
    assert tops[0] == pytest.approx(tops[1], rel=1e-6)
    found = [
        measure_dataset(m, None, list(X.split(3)), batch_loss=penalty).hessian_gradient
        for m in (model, plain)
    ]
    assert same(*found)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 2.0 * ctx.saved_tensors[0] * dy


def test_a_derivative_that_torch_drops_in_silence_is_refused_by_all_engines():
    w = nn.Parameter(torch.tensor([1.0, 2.0]))

    def loss() -> Tensor:
        return derivative(w * Square.apply(w), w).square().sum()  # pyright: ignore

    for engine in ("auto", "double_backward", "forward_over_reverse", "central_differences"):
        with pytest.raises(ValueError, match="once_differentiable"):
            jet(loss, [w], engine=engine)

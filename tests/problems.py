"""List the small problems that every optimizer must solve in the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """Hold a loss over a list of parameters, and its starting point."""

    name: str
    start: Callable[[], list[Tensor]]
    loss: Callable[[list[Tensor]], Tensor]


def _points(*shapes: tuple[int, ...]) -> Callable[[], list[Tensor]]:
    def make() -> list[Tensor]:
        generator = torch.Generator().manual_seed(7)
        return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]

    return make


def _quadratic(x: list[Tensor]) -> Tensor:
    scales = torch.linspace(0.5, 3.0, x[0].numel(), dtype=x[0].dtype)
    return 0.5 * (scales * x[0].reshape(-1) ** 2).sum() + 0.5 * x[1].square().sum()


def _least_squares(x: list[Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(12, 4, generator=generator, dtype=torch.float64).to(x[0].dtype)
    return (a @ x[0] @ x[1] - 1.0).square().mean()


def _logistic(x: list[Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    a = torch.randn(20, 6, generator=generator, dtype=torch.float64).to(x[0].dtype)
    return torch.nn.functional.softplus(-(a @ x[0].reshape(-1)) * a[:, 0].sign()).mean()


def _cone(x: list[Tensor]) -> Tensor:
    return (x[0].square().sum() + x[1].square().sum()).sqrt()


PROBLEMS = [
    Problem("cone", _points((5,), (2, 3)), _cone),
    Problem("quadratic", _points((4,), (3,)), _quadratic),
    Problem("least squares", _points((4, 3), (3,)), _least_squares),
    Problem("logistic", _points((2, 3), (1,)), lambda x: _logistic(x) + 0.0 * x[1].sum()),
]

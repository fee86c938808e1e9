from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


@pytest.fixture
def parameter() -> Callable[..., torch.nn.Parameter]:
    """A parameter with a given gradient."""

    def make(values, grad=None, dtype=torch.float64) -> torch.nn.Parameter:
        p = torch.nn.Parameter(torch.as_tensor(values, dtype=dtype))
        if grad is not None:
            p.grad = torch.as_tensor(grad, dtype=dtype).clone()
        return p

    return make


def step_sizes(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["effective_lr"]) for group in optimizer.param_groups]

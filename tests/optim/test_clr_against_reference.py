"""The fast optimizer and its slow twin, stepped side by side in float64."""

from __future__ import annotations

import pytest
import torch
from tests.optim.conftest import step_sizes
from tests.problems import PROBLEMS, Problem

from corridor import CLR
from corridor.optim._reference import ReferenceCLR

OPTIONS = [
    {},
    {"f_star": 0.05, "scale": 0.5},
    {"momentum": 0.9},
    {"momentum": 0.9, "f_star": 0.01, "scale": 1.5},
    {"weight_decay": 0.1},
    {"momentum": 0.5, "weight_decay": 0.1},
]
CAPS = [(float("inf"), float("inf")), (0.3, 0.05)]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("caps", CAPS, ids=str)
def test_steps_agree_to_1e_12(problem: Problem, options: dict[str, float], caps):
    params = [torch.nn.Parameter(t) for t in problem.start()]
    groups = [{"params": [p], "max_lr": cap} for p, cap in zip(params, caps, strict=True)]
    fast = CLR(groups, **options)
    slow = ReferenceCLR(
        [p.detach().reshape(-1) for p in params],
        list(caps),
        f_star=options.get("f_star", 0.0),
        scale=options.get("scale", 1.0),
        beta=options.get("momentum", 0.0),
        decay=[options.get("weight_decay", 0.0)] * 2,
    )
    for _ in range(12):
        fast.zero_grad()
        loss = problem.loss(params)
        loss.backward()
        grads = [p.grad.reshape(-1).clone() for p in params]
        value = loss.item()
        if value < 1e-6:  # past here both divide rounding errors by rounding errors
            break
        fast.step(loss=loss)
        slow.step(value, grads)
        assert step_sizes(fast) == pytest.approx(slow.h, rel=1e-11, abs=1e-13)
        for p, theta in zip(params, slow.theta, strict=True):
            torch.testing.assert_close(p.detach().reshape(-1), theta, rtol=1e-12, atol=1e-12)
            with torch.no_grad():  # go on from the same point, so that errors do not add up
                p.copy_(theta.reshape(p.shape))


def test_a_step_that_is_skipped_is_skipped_by_both():
    p = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    fast, slow = CLR([p], momentum=0.9), ReferenceCLR([p.detach()], [1.0], beta=0.9)
    for k in range(6):
        g = torch.tensor([1.0, k - 2.0], dtype=torch.float64)
        if k in (0, 3):
            g[1] = float("nan")
        p.grad = g.clone()
        fast.step(loss=0.3 + k)
        slow.step(0.3 + k, [g])
        torch.testing.assert_close(p.detach(), slow.theta[0], rtol=1e-12, atol=1e-12)
    assert int(fast.param_groups[0]["skipped"]) == 2

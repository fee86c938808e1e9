"""The fast optimizers and their slow twins, stepped side by side in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim import reference
from tests.optim.conftest import step_sizes
from tests.problems import PROBLEMS, Problem

from corridor import CLR
from corridor.optim import (
    NGN,
    AdaSPS,
    DecSPS,
    HalfPolyak,
    MoMoAdam,
    SPSMax,
    SPSSafe,
)

TWINS = {
    CLR: (reference.ReferenceCLR, {"scale": 0.8}),
    HalfPolyak: (reference.ReferenceHalfPolyak, {"refine_every": 3}),
    SPSMax: (reference.ReferenceSPSMax, {"c": 0.7, "growth": 1.3, "first": 0.05}),
    SPSSafe: (reference.ReferenceSPSSafe, {"floor": 0.4}),
    NGN: (reference.ReferenceNGN, {}),
    DecSPS: (reference.ReferenceDecSPS, {"c": 1.2}),
    AdaSPS: (reference.ReferenceAdaSPS, {"c": 0.9}),
    MoMoAdam: (reference.ReferenceMoMoAdam, {"beta2": 0.9, "eps": 1e-3}),
}
COMMON = [
    {},
    {"f_star": 0.05},
    {"momentum": 0.9},
    {"momentum": 0.5, "f_star": 0.01, "weight_decay": 0.1},
]
CAPS = [(float("inf"), float("inf")), (0.3, 0.05)]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
@pytest.mark.parametrize("common", COMMON, ids=str)
@pytest.mark.parametrize("caps", CAPS, ids=str)
@pytest.mark.parametrize("kind", TWINS, ids=lambda k: k.__name__)
def test_steps_agree_to_rounding(kind: Any, problem: Problem, common: dict[str, float], caps):
    twin, options = TWINS[kind]
    params = [torch.nn.Parameter(t) for t in problem.start()]
    groups = [{"params": [p], "lr": cap} for p, cap in zip(params, caps, strict=True)]
    common = {"momentum": 0.0, **common}
    fast = kind(groups, **options, **common)
    slow = twin(
        [p.detach().reshape(-1) for p in params],
        list(caps),
        f_star=common.get("f_star", 0.0),
        beta=common["momentum"],
        decay=[common.get("weight_decay", 0.0)] * 2,
        **options,
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
        assert step_sizes(fast) == pytest.approx(slow.h, rel=1e-10, abs=1e-12)
        for p, theta in zip(params, slow.theta, strict=True):
            torch.testing.assert_close(p.detach().reshape(-1), theta, rtol=1e-10, atol=1e-10)
            with torch.no_grad():  # go on from the same point, so that errors do not add up
                p.copy_(theta.reshape(p.shape))


@pytest.mark.parametrize("kind", TWINS, ids=lambda k: k.__name__)
def test_a_step_that_is_skipped_is_skipped_by_both(kind: Any):
    twin, options = TWINS[kind]
    p = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    fast = kind([{"params": [p], "lr": 1.0}], momentum=0.9, **options)
    slow = twin([p.detach()], [1.0], beta=0.9, **options)
    for k in range(6):
        g = torch.tensor([1.0, k - 2.0], dtype=torch.float64)
        if k in (0, 3):
            g[1] = float("nan")
        p.grad = g.clone()
        fast.step(loss=0.3 + k)
        slow.step(0.3 + k, [g])
        torch.testing.assert_close(p.detach(), slow.theta[0], rtol=1e-10, atol=1e-10)
    assert int(fast.param_groups[0]["skipped"]) == 2

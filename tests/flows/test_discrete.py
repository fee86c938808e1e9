"""Compare discrete methods with hand-written loops and with torch's optimizers."""

from __future__ import annotations

import math

import pytest
import torch

from corridor import CLR
from corridor.flows import (
    clr_descent,
    drift,
    gradient_descent,
    gradient_flow,
    heavy_ball,
)
from corridor.surfaces import Cone, Glued, Linear, PNorm, Quadratic, Rosenbrock, surface

START = torch.tensor([3.0, 4.0], dtype=torch.float64)
ROSEN = Rosenbrock(1.0)


def by_optimizer(make, loss, start, steps: int) -> torch.Tensor:
    x = torch.nn.Parameter(start.clone())
    opt = make([x])
    rows = [start]
    for _ in range(steps):
        opt.zero_grad()
        value = loss(x)
        value.backward()
        opt.step(**({"loss": value} if isinstance(opt, CLR) else {}))
        rows.append(x.detach().clone())
    return torch.stack(rows)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_gradient_descent_and_the_heavy_ball_step_as_torchs_sgd(beta: float):
    start = torch.tensor([-0.3, 0.4], dtype=torch.float64)
    ours = heavy_ball(ROSEN, start, 0.02, 20, momentum=beta)
    theirs = by_optimizer(lambda p: torch.optim.SGD(p, 0.02, momentum=beta), ROSEN, start, 20)
    torch.testing.assert_close(ours.points, theirs, rtol=1e-12, atol=1e-12)
    assert ours.gradients == 20
    if beta == 0.0:
        plain = gradient_descent(ROSEN, start, 0.02, 20)
        torch.testing.assert_close(plain.points, ours.points, rtol=0, atol=0)


def test_clr_steps_as_the_optimizer():
    start = torch.tensor([-0.3, 0.4], dtype=torch.float64)
    ours = clr_descent(ROSEN, start, 8, max_lr=1.0)
    theirs = by_optimizer(lambda p: CLR(p, max_lr=1.0), ROSEN, start, 8)
    torch.testing.assert_close(ours.points, theirs, rtol=1e-12, atol=1e-12)


def test_an_aligned_start_is_a_multiple_of_the_gradient():
    given = heavy_ball(Cone(), START, 0.1, 5, momentum=0.5, velocity=-0.3 * START / 5.0)
    named = heavy_ball(Cone(), START, 0.1, 5, momentum=0.5, velocity=0.3)
    # Five steps of a few operations on numbers below 5: a few dozen roundings of 1e-15.
    torch.testing.assert_close(given.points, named.points, rtol=0, atol=1e-13)


def test_the_segment_is_tested_and_not_its_ends():
    """Subtlety S4: both iterates are inside the corridor, with the apex between them."""
    path = gradient_descent(Cone(), START, 7.0, 2)
    assert path.exit_time == pytest.approx(5.0, abs=1e-7)
    assert [Cone().domain.margin(x) > 0 for x in path.points] == [True] * 3
    assert gradient_descent(Cone(), START, 2.0, 2).exit_time is None
    beside = gradient_descent(PNorm(1.0), torch.tensor([3.0, 1.0]).double(), 1.5, 1)
    assert beside.exit_time == pytest.approx(1.0, abs=1e-6)


def test_a_step_that_blows_up_ends_the_path():
    path = gradient_descent(lambda x: (x**4).sum(), START, 1.0, 50)
    assert path.stopped == "not finite"
    assert torch.isfinite(path.points).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gradient_descent(Cone(), START, 0.0), "step_size must be a positive number, got"),
        (lambda: gradient_descent(Cone(), START, math.nan), "step_size must be a positive number"),
        (lambda: gradient_descent(Cone(), START, 0.1, -1), "steps must be a whole number"),
        (lambda: heavy_ball(Cone(), START, momentum=1.0), r"momentum must be in \[0, 1\), got 1"),
        (
            lambda: heavy_ball(Cone(), START, velocity=torch.zeros(3)),
            "velocity must have the start",
        ),
        (
            lambda: drift(gradient_descent(Cone(), START, 0.1, 0), Cone()),
            "must have a length, got 1",
        ),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_descent_sees_the_kinks_of_a_curve_and_of_a_seam():
    """On both surfaces the first steps stay on the flow's line."""
    wavy = surface("wavy-cone")
    for x in wavy.sample(6, seed=3)[[0, 4, 5]]:
        flow = gradient_flow(wavy, x, 3.5)
        found = gradient_descent(wavy, x, 0.7, 5).exit_time
        assert flow.exit_time is not None
        assert found == pytest.approx(flow.exit_time, abs=1e-4)
    hill = Quadratic([[-1.0, 0.0], [0.0, -1.0]])
    roof = Glued([hill, Linear([0.0, 0.0], -50.0)], highest=True)
    for step, time in ((3.0, 4.5), (3.1, 3.1 * (1.0 + 5.9 / 12.71))):
        x = torch.tensor([1.0, 0.0], dtype=torch.float64)
        found = gradient_descent(roof, x, step, 3).exit_time
        assert found == pytest.approx(time, rel=1e-6)

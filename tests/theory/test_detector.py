"""Test the detector of corridors, and the straightness of paths."""

from __future__ import annotations

import pytest
import torch

from corridor import theory
from corridor.flows import drift, gradient_descent, gradient_flow
from corridor.surfaces import (
    SURFACES,
    Cone,
    DistanceTo,
    Expression,
    FixedStep,
    Glued,
    Linear,
    LogDistance,
    PowerNorm,
    Quadratic,
    RiverValley,
    Verdict,
    prove,
    surface,
)


@pytest.mark.parametrize("name", SURFACES)
@pytest.mark.parametrize("knows_domain", [True, False])
def test_the_detector_tells_corridors_from_the_rest(name: str, knows_domain: bool):
    """Theorem 2.11 on 20 corridors and 15 other surfaces."""
    loss = surface(name)
    found = theory.detect(loss if knows_domain else lambda x: loss(x), loss.sample(6, seed=9))
    assert found.verdict is loss.verdict
    assert bool(found) is loss.is_corridor


NET = torch.nn.Sequential(
    torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16), torch.nn.ReLU(),
    torch.nn.Linear(16, 1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        (lambda x: x.abs().sum(), Verdict.CORRIDOR),
        (lambda x: x.max(), Verdict.CORRIDOR),
        (lambda x: torch.maximum(x[0], 2.0 * x[1]), Verdict.CORRIDOR),
        (lambda x: NET.to(x.dtype)(x)[0], Verdict.CORRIDOR),
        (lambda x: x.relu().square().sum(), Verdict.WEAK),
        (lambda x: (x[0] * x[1]).abs(), Verdict.NEITHER),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_seams_between_the_points_do_not_count(loss, verdict, dtype):
    generator = torch.Generator().manual_seed(5)
    for count in (10, 100):
        points = 2.0 * torch.randn(count, 2, generator=generator, dtype=torch.float64).to(dtype)
        assert theory.detect(loss, points).verdict is verdict


def test_a_wrong_second_derivative_makes_no_corridor():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square().sum()

        @staticmethod
        def backward(ctx, *grads):
            (x,) = ctx.saved_tensors
            return grads[0] * 2.0 * x.detach()  # Hg of autograd is 0

    points = torch.randn(10, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert theory.detect(Square.apply, points).verdict is not Verdict.CORRIDOR


@pytest.mark.parametrize(
    "loss",
    [
        DistanceTo(lambda x: x.square().sum(-1), dimension=2),
        DistanceTo(lambda x: x[..., 0] * x[..., 1], dimension=2),
        DistanceTo(lambda x: 2.0 * x.norm(dim=-1), dimension=2),
        Expression("sqrt(x**2 + y**2)"),
        Expression("abs(x*y)"),
        Expression("max(x, 2*y) + 1"),
        Expression("log(1 + x**2 + y**2)"),
        Glued([PowerNorm(2.0), Linear([1.0, 0.0], 1.0)], highest=True),
    ],
)
def test_one_verdict_per_object(loss):
    found = theory.detect(loss, loss.sample(10, seed=2))
    assert loss.verdict is found.verdict
    if loss.expression is not None:
        assert prove(loss.expression).verdict is found.verdict


def test_a_function_of_another_dimension_is_undecided_until_it_is_given():
    def ball(x):
        return (x - torch.ones(3, dtype=x.dtype)).norm(dim=-1)

    assert DistanceTo(ball).verdict is Verdict.UNDECIDED
    assert DistanceTo(ball, dimension=3).verdict is Verdict.CORRIDOR


def test_enough_of_either_kind_is_told_apart():
    kinds = [surface(name).is_corridor for name in SURFACES]
    assert sum(kinds) >= 12
    assert len(kinds) - sum(kinds) >= 12


def test_points_of_a_river_do_not_make_a_corridor():
    """Subtlety S6: Hg = 0 on a line or at critical points proves nothing."""
    river = torch.tensor([[0.0, y] for y in (-1.0, 0.0, 2.0)], dtype=torch.float64)
    assert theory.detect(RiverValley(), river, beside=0).verdict is Verdict.CORRIDOR
    assert theory.detect(RiverValley(), river).verdict is Verdict.NEITHER
    bottom = theory.detect(Quadratic(), torch.zeros(1, 2).double(), beside=0)
    assert bottom.verdict is Verdict.UNDECIDED
    assert bottom.skipped == bottom.points == 1


def test_one_step_size_is_not_enough():
    """Subtlety S5: for a single h gradient descent follows the flow, with Hg far from 0."""
    loss = FixedStep(0.5)
    for t in (0.02, 0.2, 0.4):
        start = loss.at_time(torch.tensor([t], dtype=torch.float64))
        once = drift(gradient_descent(loss, start, 0.5, 1), loss)
        assert float(once.distance[-1]) < 1e-8
        flow = loss.at_time(torch.tensor([t + 0.5], dtype=torch.float64))
        assert float((gradient_descent(loss, start, 0.5, 1).end - flow).abs()) < 1e-12
        half = loss.at_time(torch.tensor([t + 0.25], dtype=torch.float64))
        assert float((gradient_descent(loss, start, 0.25, 1).end - half).abs()) > 1e-3
    assert theory.detect(loss, loss.sample(6)).verdict is not Verdict.CORRIDOR
    with pytest.raises(ValueError, match="step_sizes must hold at least two"):
        theory.theorem_3_1_converse(loss, start, [0.5])


def test_weak_corridors_are_straight_and_change_their_speed():
    """Subtlety S1: gradient descent stays on the line, but at other times than the flow."""
    start = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for loss in (Quadratic(), LogDistance(), PowerNorm(1.5)):
        flow = gradient_flow(loss, start, 0.5, at=torch.linspace(0.0, 0.5, 11))
        straight = theory.straightness(flow)
        assert straight.deviation < 1e-8
        assert straight.speed_variation > 1e-2
        descent = gradient_descent(loss, start, 0.25, 2)
        assert theory.straightness(descent).deviation < 1e-12
        assert float(drift(descent, loss).relative[-1]) > 1e-3


def test_on_a_quadratic_the_change_of_the_gradient_equals_hg():
    point = torch.tensor([[-0.4, 0.7]], dtype=torch.float64)
    found = theory.detect(Quadratic([[1.0, 0.3], [0.3, 2.0]]), point, beside=0)
    assert found.secant == pytest.approx(found.crooked, rel=1e-9)


def test_bad_input_is_one_line():
    with pytest.raises(ValueError, match="points must hold at least one point"):
        theory.detect(Cone(), [])
    still = gradient_descent(Cone(), torch.tensor([3.0, 4.0], dtype=torch.float64), 1.0, 0)
    with pytest.raises(ValueError, match="path must have two different ends"):
        theory.straightness(still)

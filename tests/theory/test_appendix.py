"""Test appendices A and C and the step sizes of section 4.

Rounding errors here are a few hundred units in the last place, 1e-13 of numbers of size 1.
"""

from __future__ import annotations

import pytest
import torch
from tests.theory.families import CORRIDORS

import corridor
from corridor import theory
from corridor.flows import clr_descent, gradient_flow, mean_epoch, mean_loss
from corridor.surfaces import AbsoluteValue, Cone, Hinge, PowerNorm, Quadratic, Saddle


def room(name: str) -> float:
    """Return the time that a corridor lasts from its start, at most 2."""
    loss, start = CORRIDORS[name]
    speed = loss.speed or float(torch.func.grad(loss)(start).norm())
    margin = float(loss.domain.margin(start)) / speed
    return min(theory.horizon(loss, start), 0.99 * margin, 2.0)


@pytest.mark.parametrize("name", CORRIDORS)
@pytest.mark.parametrize("aligned", [0.0, 0.5])
def test_momentum_has_its_closed_form(name: str, aligned: float):
    """Lemma A.1, and remark A.2 for aligned starts, for 100 steps."""
    loss, start = CORRIDORS[name]
    beta, steps = 0.9, 100
    h = 0.9 * room(name) / theory.momentum_distance(steps, 1.0, beta, aligned=aligned)
    found = theory.lemma_a_1(loss, start, h, beta, steps, aligned=aligned * h)
    assert found, found


@pytest.mark.parametrize("name", ["cone in 5 dimensions", "blocks", "wavy cone"])
def test_momentum_follows_its_piecewise_flow(name: str):
    loss, start = CORRIDORS[name]
    found = theory.remark_a_3(loss, start, 0.05 * room(name), 0.5, 8)
    assert found, found


def test_a_misaligned_start_leaves_the_line():
    """Remark A.2 holds in corridors, too."""
    start = torch.tensor([3.0, 4.0], dtype=torch.float64)
    across = torch.tensor([-0.4, 0.3], dtype=torch.float64)
    assert theory.misaligned_displacement(Cone(), start, across, 0.05, 0.5, 10) > 0.1
    along = torch.tensor([-0.3, -0.4], dtype=torch.float64)
    assert theory.misaligned_displacement(Cone(), start, along, 0.05, 0.5, 10) < 1e-12


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, "rk4") for name in CORRIDORS]
    + [
        (name, method)
        for name in ("nuclear norm", "wavy cone")
        for method in ("heun", "kutta3", "implicit midpoint")
    ],
)
def test_every_runge_kutta_method_steps_on_the_flow(name: str, method: str):
    """Appendix A.2 and subtlety S8, with h at 0.8 of the horizon."""
    loss, start = CORRIDORS[name]
    found = theory.appendix_a_2(loss, start, 0.8 * room(name), method=method)
    assert found, found


def test_runge_kutta_past_the_apex_is_off_the_line():
    """Subtlety S4: a step of length 150 from a start at distance 112."""
    start = torch.tensor([100.0, 50.0], dtype=torch.float64)
    assert not theory.appendix_a_2(Cone(), start, 150.0)
    assert theory.appendix_a_2(Cone(), start, 80.0)


def cubic(seed: int):
    """Return the loss of a batch, with random quadratic and cubic terms."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    b, c = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    return lambda x: 0.5 * (a @ x).square().sum() + b @ x + 0.2 * (c @ x) ** 3


BATCHES = [cubic(seed) for seed in range(4)]
POINT = torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64)


def test_sgds_mean_epoch_follows_the_modified_flow_to_third_order():
    """Appendix A.3 over all 24 orders of 4 batches."""
    found = theory.appendix_a_3(BATCHES, POINT, (1e-2, 5e-3, 2.5e-3))
    assert 2.8 <= found.detail["order"] <= 3.1
    assert 1.8 <= found.detail["order without"] <= 2.1


def test_the_two_penalties_are_one():
    assert theory.batch_gradient_identity(BATCHES, POINT)


def test_in_a_corridor_only_the_spread_of_the_batches_is_left():
    """Subtlety S12: two tilted halves of a cone have Hg != 0, but their mean has Hg = 0."""
    tilt = lambda x: x[0] * x[1]  # noqa: E731
    batches = [lambda x: x.norm() + tilt(x), lambda x: x.norm() - tilt(x)]
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    g = [torch.autograd.grad(b(x), x, create_graph=True)[0] for b in batches]
    mean = sum(g) / 2.0
    spread = sum((one - mean).square().sum() for one in g) / 2.0
    penalties = [mean.square().sum(), sum(one.square().sum() for one in g) / 2.0, spread]
    pull = [torch.autograd.grad(p, x, retain_graph=True)[0] for p in penalties]
    assert float(pull[0].norm()) < 1e-13
    torch.testing.assert_close(pull[1], pull[2], rtol=0, atol=1e-13)
    assert float(pull[2].norm()) > 1.0


def test_shuffled_linear_batches_land_on_the_flow():
    losses = [lambda x: x @ POINT, lambda x: x[0] - x[2]]
    check = theory.batch_gradient_identity(losses, POINT)
    assert check
    end = mean_epoch(losses, POINT, 0.1)
    flow = gradient_flow(mean_loss(losses), POINT, 0.2).end
    torch.testing.assert_close(end, flow, rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_quadratics_have_no_corridors(seed: int):
    """Appendix C and its quantitative form: rho is at least 1/4."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    b = torch.randn(5, generator=generator, dtype=torch.float64)
    x = torch.randn(1000, 5, generator=generator, dtype=torch.float64)
    assert theory.appendix_c(root + root.T, b, x)
    positive = root @ root.T
    values = torch.linalg.eigvalsh(positive)
    bound = theory.kantorovich(float(values[-1] / values[0]))
    loss = Quadratic(positive)
    for point in x[:50]:
        leaf = point.requires_grad_()
        found = corridor.measure(lambda p=leaf: loss(p), [leaf])
        # The eigenvalues have the relative error eps times the condition number.
        assert float(found.rho) >= 0.25 - 1e-12
        assert 0.25 - 1e-12 <= float(found.rho_parallel) <= bound * (1.0 + 1e-9)
        mu, L = float(values[0]), float(values[-1])
        assert 0.5 / L * (1.0 - 1e-9) <= float(found.clr) <= 0.5 / mu * (1.0 + 1e-9)


@pytest.mark.parametrize(
    ("loss", "start"),
    [(AbsoluteValue(), [-2.5]), (Hinge([1.0, -2.0], 1.0), [3.0, 1.0]), (Cone(), [3.0, 4.0])],
)
def test_clr_reaches_zero_in_one_step(loss, start):
    """Equations 2 and 3, and examples 2.2 and 2.3."""
    path = clr_descent(loss, torch.tensor(start, dtype=torch.float64), 1)
    assert float(path.losses[1]) <= 1e-13 * float(path.losses[0])


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_clr_on_powers_of_norms(p: float):
    x = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64)
    path = clr_descent(PowerNorm(p), x, 1)
    ratio = float(path.losses[1] / path.losses[0])
    assert ratio == pytest.approx(theory.beyond.power_loss_ratio(p), abs=1e-12)
    half = clr_descent(PowerNorm(p), x, 1, scale=0.5)
    assert float(half.times[1]) == pytest.approx(0.5 * float(path.times[1]), rel=1e-13)


def test_the_quadratic_is_a_weak_corridor_of_number_a_quarter():
    x = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    found = corridor.measure(lambda: Quadratic()(x), [x])
    assert float(found.rho) == pytest.approx(0.25, abs=1e-12)
    assert float(found.rho_parallel) == pytest.approx(0.25, abs=1e-12)
    assert float(found.curvature) == pytest.approx(0.0, abs=1e-12)


def test_momentum_off_corridors_is_not_the_closed_form():
    assert not theory.lemma_a_1(Saddle(), torch.tensor([1.0, 0.4]).double(), 0.05, 0.5, 5)


def test_the_order_of_sgd_needs_losses_in_float64():
    a = torch.eye(2)
    with pytest.raises(ValueError, match="losses must accept float64, got only"):
        theory.appendix_a_3([lambda x: (a @ x).pow(3).sum()] * 2, torch.ones(2))

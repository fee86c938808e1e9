"""Test the identities beyond the paper on measured losses and flows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.theory.families import CORRIDORS

import corridor
from corridor import theory
from corridor.flows import (
    clr_descent,
    drift,
    gradient_descent,
    gradient_flow,
    heavy_ball,
    modified_flow,
)
from corridor.surfaces import Huber, LogDistance, LogisticTail, LogSumExp, Quadratic, Rosenbrock
from corridor.theory import beyond

ROSEN = Rosenbrock(1.0)
START = torch.tensor([-0.4, 0.7], dtype=torch.float64)
M = torch.tensor([[2.0, 0.3, 0.0], [0.3, 1.0, -0.2], [0.0, -0.2, 0.5]], dtype=torch.float64)
X = torch.tensor([0.9, -0.4, 1.1], dtype=torch.float64)


def measured(loss, x):
    leaf = x.detach().clone().requires_grad_()
    return corridor.measure(lambda: loss(leaf), [leaf])


@pytest.mark.parametrize("name", ["cone in 5 dimensions", "blocks", "wavy cone", "concave cone"])
def test_the_hessian_obeys_its_riccati_equation(name: str):
    """3.2: H(t) = H_0 (I - t H_0)^-1 before the horizon, and E lambda_max <= ||g||^2."""
    loss, start = CORRIDORS[name]
    horizon = theory.horizon(loss, start)
    time = 0.4 * min(horizon, 2.0)
    H = torch.autograd.functional.hessian(loss, start)
    later = torch.autograd.functional.hessian(loss, gradient_flow(loss, start, time).end)
    torch.testing.assert_close(later, beyond.riccati(H, time), rtol=0, atol=1e-12)
    if math.isfinite(horizon):
        with pytest.raises(ValueError, match="below the horizon"):
            beyond.riccati(H, 1.01 * horizon)
    if name.startswith("cone"):  # its loss is 0 at the horizon
        assert float(loss(start)) / horizon == pytest.approx(loss.speed**2, rel=1e-12)


@pytest.mark.parametrize("name", CORRIDORS)
def test_corridors_have_number_zero(name: str):
    loss, start = CORRIDORS[name]
    found = measured(loss, start)
    assert float(found.rho) < 1e-13
    assert float(found.curvature) < 1e-13


def test_the_curvature_is_that_of_the_flow_line():
    """3.3: kappa equals the curvature of the circle through three points of the flow."""
    kappa = float(measured(ROSEN, START).curvature)
    d = 3e-4
    back = gradient_flow(lambda x: -ROSEN(x), START, d, 1e-13).end
    ahead = gradient_flow(ROSEN, START, d, 1e-13).end
    a, b, c = (START - back).norm(), (ahead - START).norm(), (ahead - back).norm()
    u, v = START - back, ahead - START
    area = 0.5 * float((u[0] * v[1] - u[1] * v[0]).abs())
    assert 4.0 * area / float(a * b * c) == pytest.approx(kappa, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(1.0, 4.0), st.floats(0.1, 5.0), st.floats(0.5, 3.0))
def test_the_number_of_powers_and_of_powers_of_losses(p: float, scale: float, q: float):
    """3.4 and 3.5: rho is (p - 1) / (2 p), and a power of the loss multiplies the degree."""
    found = measured(lambda x: scale * x.norm() ** p, X)
    assert float(found.rho_parallel) == pytest.approx(beyond.power_rho(p), abs=1e-12)
    base = measured(lambda x: LogDistance()(x), X)
    raised = measured(lambda x: LogDistance()(x) ** q, X)
    degree = 1.0 / (1.0 - 2.0 * float(base.rho_parallel))
    assert 1.0 - 2.0 * float(raised.rho_parallel) == pytest.approx(1.0 / (q * degree), abs=1e-10)


@pytest.mark.parametrize("z", [-3.0, 0.0, 2.0, 8.0])
def test_the_logistic_number(z: float):
    found = measured(LogisticTail(), torch.tensor([z], dtype=torch.float64))
    assert float(found.rho) == pytest.approx(beyond.logistic_rho(z), rel=1e-12)


def test_closed_forms_have_limits_where_exp_overflows():
    assert [beyond.logistic_rho(z) for z in (-math.inf, -800.0)] == [0.0, 0.0]
    assert [beyond.logistic_rho(z) for z in (800.0, math.inf)] == [0.5, 0.5]
    # The smallest doubles have few digits.
    assert beyond.logistic_rho(-740.0) == pytest.approx(370.0 * math.exp(-740.0), rel=1e-2)
    assert beyond.logistic_rho(740.0) == pytest.approx(0.5, rel=1e-12)
    assert beyond.drift_bound(1.0, 0.1, 1e3, -1.0) == math.inf


def test_quadratics_fall_and_turn_by_the_closed_forms():
    """3.6: E_1 / E_0 = rho_par, the next CLR, and the distance from the minimum."""
    loss = Quadratic(M)
    found = measured(loss, X)
    path = clr_descent(loss, X, 2)
    rho, rho_par = float(found.rho), float(found.rho_parallel)
    assert float(path.losses[1] / path.losses[0]) == pytest.approx(rho_par, abs=1e-12)
    h = path.step_sizes
    assert float(h[1] / h[0]) == pytest.approx(beyond.quadratic_next_clr(rho_par, rho), rel=1e-12)
    norm_sq = float(found.grad_norm) ** 2
    for m in (0.5, 1.0, 2.0, 4.0):
        end = clr_descent(loss, X, 1, scale=m).end
        drop = float(X @ X - end @ end)
        expected = beyond.quadratic_distance_drop(float(found.loss), norm_sq, m)
        assert drop == pytest.approx(expected, abs=1e-12)


def test_the_loss_can_rise_from_the_condition_number_on():
    critical = 7.0 + 4.0 * math.sqrt(3.0)
    for k, rises in ((0.99 * critical, False), (1.01 * critical, True)):
        values = torch.tensor([1.0, k], dtype=torch.float64)
        angle = torch.linspace(0.0, math.pi / 2.0, 20001, dtype=torch.float64)
        x = torch.stack([angle.cos() / values[0], angle.sin() / values[1]], -1)
        g = x * values
        E = 0.5 * (x * g).sum(-1)
        rho_par = E * (g * g * values).sum(-1) / (2.0 * g.square().sum(-1) ** 2)
        assert bool(rho_par.max() > 1.0) is rises
        assert float(rho_par.max()) == pytest.approx(theory.kantorovich(k), abs=1e-6)


def test_second_order_steps_are_exact_where_they_should_be():
    """3.8: the steps are exact along g, on indefinite quadratics and on power laws."""
    loss = Quadratic(torch.diag(torch.tensor([1.0, 2.0, -0.5]).double()), offset=2.0)
    found = measured(loss, X)
    args = (float(found.loss), float(found.grad_norm) ** 2, float(found.rho_parallel))
    leaf = X.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(leaf), leaf)
    if args[2] <= 0.25:
        end = loss(X - beyond.quadratic_model_step(*args) * g)
        assert abs(float(end)) < 1e-12 * args[0]
    with pytest.raises(ValueError, match="rho_parallel must be at most 1/4"):
        beyond.quadratic_model_step(1.0, 1.0, 0.3)
    for p in (1.5, 3.0, 5.0):
        power = measured(lambda x, p=p: x.norm() ** p, X)
        args = (float(power.loss), float(power.grad_norm) ** 2, float(power.rho_parallel))
        direction = p * X.norm() ** (p - 2.0) * X
        assert float((X - beyond.degree_step(*args) * direction).norm()) < 1e-12
        halley, clr = beyond.halley_step(*args), args[0] / args[1]
        assert clr < halley < beyond.degree_step(*args)
    with pytest.raises(ValueError, match="below 1/2"):
        beyond.degree_step(1.0, 1.0, 0.5)


def test_clr_moves_along_the_flow_as_its_number_says():
    """3.9: dh/dt = -1 + 4 rho_par, its time mean, and rho from logs."""
    loss = lambda x: LogSumExp()(x) + 0.5 * x.square().sum()  # noqa: E731
    n = 20001
    path = gradient_flow(loss, X, 2.0, 1e-12, at=torch.linspace(0.0, 2.0, n))
    x = path.points.clone().requires_grad_()
    batch = torch.logsumexp(x, -1) + 0.5 * x.square().sum(-1)
    (g,) = torch.autograd.grad(batch.sum(), x)
    norm_sq = g.square().sum(-1)
    E = path.losses
    h = E / norm_sq
    middle = n // 2
    times = path.times
    rate = float((h[middle + 1] - h[middle - 1]) / (times[middle + 1] - times[middle - 1]))
    rho_par = float(measured(loss, path.points[middle]).rho_parallel)
    assert rate == pytest.approx(beyond.clr_rate(rho_par), abs=1e-6)
    logs = beyond.rho_from_logs(E, norm_sq)
    assert float(logs[middle - 1 : middle + 1].mean()) == pytest.approx(rho_par, abs=1e-6)
    sampled = [float(measured(loss, p).rho_parallel) for p in path.points[::100]]
    mean = torch.trapezoid(torch.tensor(sampled).double(), dx=0.01) / 2.0
    assert float(mean) == pytest.approx(beyond.mean_rho(float(h[0]), float(h[-1]), 2.0), abs=1e-3)


def test_exponential_sums_rise_by_conflict_only():
    """3.10."""
    assert beyond.exponential_sum_ratio([0.5, 0.5], [1.0, -0.2]) == pytest.approx(0.865, abs=1e-3)
    assert beyond.exponential_sum_ratio([0.5, 0.5], [1.0, -0.5]) == pytest.approx(3.70, abs=1e-2)
    assert beyond.exponential_sum_ratio([1.0], [2.0]) == pytest.approx(math.exp(-1.0))
    slopes = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    loss = lambda t: (weights * torch.exp(-slopes * t)).sum()  # noqa: E731
    path = clr_descent(loss, torch.zeros(1, dtype=torch.float64), 1)
    ratio = beyond.exponential_sum_ratio(weights.tolist(), slopes.tolist())
    assert float(path.losses[1] / path.losses[0]) == pytest.approx(ratio, rel=1e-12)
    assert math.exp(-1.0) <= ratio < 1.0


def test_a_minimum_that_is_left_out_makes_chaos():
    """3.11: the iterates follow the doubling map."""
    loss = lambda x: 0.7 + 0.5 * 3.0 * x.square().sum()  # noqa: E731
    alpha = 0.6180339887
    start = torch.tensor([beyond.unaccounted_minimum(alpha, 0, 0.7, 3.0)], dtype=torch.float64)
    path = clr_descent(loss, start, 12, f_star=0.0)
    exact = [beyond.unaccounted_minimum(alpha, k, 0.7, 3.0) for k in range(13)]
    assert path.points[:, 0].tolist() == pytest.approx(exact, rel=1e-8)
    many = clr_descent(loss, start, 4000, f_star=0.0).losses
    # The median of 4,000 draws has a standard error of 2.5 percent; chaos amplifies any rounding.
    assert float(many.median()) == pytest.approx(2.0 * 0.7, rel=0.2)


def test_the_drift_stays_within_its_bound():
    """3.12 for a convex and a nonconvex loss."""
    for loss, x, least in ((LogSumExp(), X, 0.0), (ROSEN, START, -3.0)):
        path = gradient_descent(loss, x, 0.05, 10)
        found = drift(path, loss)
        hg = max(float(measured(loss, p).hg_norm) for p in path.points)
        lowest = min(float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, p))[0])
                     for p in path.points)  # fmt: skip
        assert lowest >= least - 1e-12
        bound = beyond.drift_bound(1.1 * hg, 0.05, 0.5, least)
        assert 0.0 < float(found.distance[-1]) <= bound


def test_modified_flows_are_of_the_next_order():
    """3.14 and IGR: the error is of order 1 for the plain and of order 2 for the modified flow."""
    time = 0.4

    def gaps(method, **options):
        plain, better = [], []
        for n in (10, 20, 40):
            h = time / n
            path = method(h, n)
            end = path.flat()[-1]
            plain.append(float((end - gradient_flow(ROSEN, START, time, 1e-12).end).norm()))
            flow = modified_flow(ROSEN, START, time, 1e-12, step_size=h, **options).end
            better.append(float((end - flow).norm()))
        return plain, better

    plain, better = gaps(lambda h, n: gradient_descent(ROSEN, START, h, n), kind="igr")
    assert plain[1] / plain[2] == pytest.approx(2.0, abs=0.1)
    assert better[1] / better[2] == pytest.approx(4.0, abs=0.3)


def test_the_heavy_balls_flow_is_a_faster_regularized_one():
    """3.14 from the velocity of the heavy ball's slow manifold."""
    beta, time = 0.5, 0.5
    misses = []
    for n in (64, 128, 256):
        h = time / n
        ball = heavy_ball(ROSEN, START, h, n, momentum=beta, velocity=h / (1.0 - beta))
        flow = modified_flow(ROSEN, START, time, 1e-12, kind="heavy ball", step_size=h,
                             momentum=beta).end  # fmt: skip
        rate = gradient_flow(ROSEN, START, time / (1.0 - beta), 1e-12).end
        misses.append((float((ball.end - flow).norm()), float((ball.end - rate).norm())))
    assert misses[1][1] / misses[2][1] == pytest.approx(2.0, abs=0.2)
    # A wrong weight of the penalty would leave an error of order 1, as the plain flow does.
    assert misses[1][0] / misses[2][0] == pytest.approx(4.0, abs=0.3)


def test_modified_flows_are_the_flow_in_corridors():
    """Subtlety S8."""
    for name in ("cone in 5 dimensions", "blocks"):
        loss, start = CORRIDORS[name]
        plain = gradient_flow(loss, start, 0.5).end
        for kind in ("igr", "principal"):
            end = modified_flow(loss, start, 0.5, kind=kind, step_size=0.3).end
            torch.testing.assert_close(end, plain, rtol=0, atol=1e-12)
        ball = modified_flow(loss, start, 0.25, kind="heavy ball", step_size=0.1, momentum=0.5)
        torch.testing.assert_close(ball.end, plain, rtol=0, atol=1e-12)


def test_the_principal_flow_is_exact_on_quadratics():
    loss = Quadratic(M)
    h = 0.3
    path = gradient_descent(loss, X, h, 5)
    flow = modified_flow(loss, X, 5 * h, 1e-12, kind="principal", step_size=h, at=path.times)
    assert float((path.flat() - flow.flat()).norm(dim=1).max()) < 1e-10
    with pytest.raises(ValueError, match="step_size must be below 1 / lambda_max"):
        modified_flow(loss, X, 1.0, kind="principal", step_size=0.6)


def test_a_smooth_losss_corridor_ends_above_its_floor():
    """Subtlety S10: equality on the Huber loss."""
    loss = Huber(1.0, 2.0)
    start = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert theory.lemma_2_9(loss, start, 4.499)
    assert not theory.lemma_2_9(loss, start, 4.6)
    assert float(gradient_flow(loss, start, 4.5).losses[-1]) == pytest.approx(1.0 / (2 * 2.0))


def test_kinds_and_losses_must_match():
    with pytest.raises(ValueError, match="kind must be one of igr, heavy ball, sgd, principal"):
        modified_flow(ROSEN, START, kind="magic")
    with pytest.raises(ValueError, match="loss must be a list of batch losses for kind 'sgd'"):
        modified_flow(ROSEN, START, kind="sgd")
    with pytest.raises(ValueError, match="loss must be one function for kind 'igr', got list"):
        modified_flow([ROSEN], START, kind="igr")

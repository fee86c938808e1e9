"""Drift control: the limit against a dense Hessian, its meaning, and that nothing else changes."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.problems import PROBLEMS, Problem
from torch import nn

from corridor import CLR, CLRAdam
from corridor.optim import DAL

SCALES = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)


def quadratic(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (SCALES * x.square()).sum()


def start() -> nn.Parameter:
    return nn.Parameter(torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64))


def watched_step(opt, p, loss_fn) -> float:
    opt.zero_grad()
    opt.watch(loss_fn(p)).backward()
    opt.step()
    return float(opt.param_groups[0]["effective_lr"])


def dense(problem: Problem) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Loss, gradient and Hessian of all parameters as one vector."""
    params = problem.start()
    flat = torch.cat([p.reshape(-1) for p in params])

    def of_flat(x):
        parts = x.split([p.numel() for p in params])
        return problem.loss([t.view_as(p) for t, p in zip(parts, params, strict=True)])

    g = torch.autograd.functional.jacobian(of_flat, flat)
    return float(of_flat(flat)), g, torch.autograd.functional.hessian(of_flat, flat)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
@pytest.mark.parametrize("tau", [0.01, 0.5, 1.0, 100.0])
def test_the_step_is_the_lesser_of_clr_and_the_drifts_limit(problem: Problem, tau: float):
    loss, g, H = dense(problem)
    clr, limit = loss / float(g @ g), 2.0 * tau * float(g.norm() / (H @ g).norm())
    params = [nn.Parameter(t) for t in problem.start()]
    opt = CLR(params, drift=tau)
    opt.watch(problem.loss(params)).backward()
    opt.step()
    h = float(opt.param_groups[0]["effective_lr"])
    assert h == pytest.approx(min(clr, limit), rel=1e-10)


@pytest.mark.parametrize("problem", PROBLEMS[1:], ids=lambda p: p.name)
@pytest.mark.parametrize("tau", [0.05, 1e4])
def test_in_adams_metric_it_is_the_same_with_a_dense_hessian(problem: Problem, tau: float):
    """At the first step P = 1 / (|g| + eps)."""
    loss, g, H = dense(problem)
    P = 1.0 / (g.abs() + 1e-3)
    s, q = float(g @ (P * g)), H @ (P * g)
    limit = 2.0 * tau * math.sqrt(s / float(q @ (P * q)))
    params = [nn.Parameter(t) for t in problem.start()]
    opt = CLRAdam(params, drift=tau, eps=1e-3)
    opt.watch(problem.loss(params)).backward()
    opt.step()
    h = float(opt.param_groups[0]["effective_lr"])
    assert h == pytest.approx(min(loss / s, limit), rel=1e-9)
    flat = torch.cat([t.reshape(-1) for t in problem.start()])
    moved = torch.cat([p.detach().reshape(-1) for p in params])
    torch.testing.assert_close(moved, flat - h * P * g, rtol=1e-9, atol=1e-12)


def test_the_second_moments_of_later_steps_are_those_of_the_step():
    """The ratio is taken with v as the step will have it, and averaged over the measurements."""
    p, ratios = start(), []
    opt = CLRAdam([p], every=1, beta2=0.9, eps=1e-2, momentum=0.5)
    squares = []
    for _ in range(4):
        x = p.detach().clone()
        g = SCALES * x
        squares.append(g.square())
        w = [0.1 * 0.9 ** (len(squares) - 1 - j) for j in range(len(squares))]
        v = sum(a * s for a, s in zip(w, squares, strict=True)) / sum(w)
        P = 1.0 / (v.sqrt() + 1e-2)
        q = SCALES * (P * g)
        watched_step(opt, p, quadratic)
        ratios.append(math.sqrt(float(q @ (P * q)) / float(g @ (P * g))))
        expected = sum(ratios) / len(ratios)
        assert float(opt.param_groups[0]["hessian_ratio"]) == pytest.approx(expected, rel=1e-10)


def test_a_parameter_that_joins_late_is_measured_in_the_metric_it_moves_in():
    p, q = start(), nn.Parameter(torch.tensor([0.3, -2.0], dtype=torch.float64))
    opt = CLRAdam([p, q], every=1, eps=1e-3)
    for _ in range(3):
        watched_step(opt, p, quadratic)
    before = float(opt.param_groups[0]["hessian_ratio"])
    x, y = p.detach().clone(), q.detach().clone()
    h = watched_step(opt, p, lambda t: quadratic(t) + 5.0 * q.square().sum())
    group = opt.param_groups[0]
    H = torch.cat([SCALES, torch.full((2,), 10.0).double()])
    g = H * torch.cat([x, y])
    squares = torch.cat([opt.state[t]["square_average"] for t in (p, q)])
    P = 1.0 / ((squares / group["square_weight"]).sqrt() + 1e-3)
    torch.testing.assert_close(P[3:], 1.0 / (g[3:].abs() + 1e-3))  # as at the first step of all
    ratio = float((P.sqrt() * H * P * g).norm() / (P.sqrt() * g).norm())
    mean = before + (ratio - before) / 4
    assert float(group["hessian_ratio"]) == pytest.approx(mean, rel=1e-10)
    torch.testing.assert_close(q.detach(), y - h * P[3:] * g[3:])  # its average is g


@pytest.mark.parametrize("tau", [0.04, 0.02, 0.01])
def test_at_the_limit_the_step_drifts_from_the_flow_by_tau_of_its_length(tau: float):
    """On a quadratic the flow is known: ``exp(-H h) x``; the relative error is of the order tau."""
    p = start()
    x = p.detach().clone()
    h = watched_step(CLR([p], drift=tau), p, lambda t: quadratic(t) + 100.0)
    flow = torch.exp(-SCALES * h) * x
    drift = float((flow - p.detach()).norm() / (p.detach() - x).norm())
    assert drift == pytest.approx(tau, rel=1.5 * tau)


@pytest.mark.parametrize("make", [lambda p: CLR(p, drift=1.0), lambda p: CLRAdam(p)])
def test_a_corridor_is_solved_in_one_step(make):
    x = nn.Parameter(torch.tensor([30.0, -40.0], dtype=torch.float64))
    slope = torch.tensor([0.6, -0.8], dtype=torch.float64)
    watched_step(make([x]), x, lambda t: t @ slope)
    assert abs(float(x.detach() @ slope)) < 1e-11


def test_the_limits_of_tau_are_clr_and_dal():
    loss_fn = lambda t: quadratic(t) + 3.0  # noqa: E731
    free, dal = CLR([start()], max_lr=math.inf), DAL([start()], max_lr=math.inf)
    drifting = {tau: CLR([start()], drift=tau) for tau in (1e-3, 1e6)}
    h = {
        key: watched_step(opt, opt.param_groups[0]["params"][0], loss_fn)
        for key, opt in {"free": free, "dal": dal, **drifting}.items()
    }
    assert h[1e6] == h["free"]
    assert h[1e-3] == pytest.approx(1e-3 * h["dal"], rel=1e-12)


def test_a_cap_limits_beside_the_drift():
    assert watched_step(CLR([p := start()], drift=1.0, max_lr=1e-3), p, quadratic) == 1e-3
    assert CLR([start()], drift=1.0).param_groups[0]["lr"] == math.inf
    assert CLR([start()]).param_groups[0]["lr"] == 1.0


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1)
    )


def train(model: nn.Module, opt, first: int, last: int, watch: bool = True) -> list[float]:
    sizes = []
    for k in range(first, last):
        generator = torch.Generator().manual_seed(k)
        torch.manual_seed(k)
        x = torch.randn(16, 4, generator=generator)
        opt.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        (opt.watch(loss) if watch else loss).backward()
        opt.step(**({} if watch else {"loss": loss}))
        sizes.append(float(opt.param_groups[0]["effective_lr"]))
    return sizes


def test_a_limit_that_is_never_met_changes_nothing_to_the_last_bit():
    """BatchNorm buffers, dropout and gradients included."""
    models = [network(), network()]
    opts = [
        CLR(models[0].parameters(), drift=1e9, max_lr=0.1, every=2),
        CLR(models[1].parameters(), max_lr=0.1),
    ]
    train(models[0], opts[0], 0, 7)
    train(models[1], opts[1], 0, 7, watch=False)
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: CLR(p, drift=1.0, every=3),
        lambda p: CLR(p, drift=1.0, every=3, momentum=0.9),
        lambda p: CLRAdam(p, every=3),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(make):
    model = network()
    opt = make(model.parameters())
    train(model, opt, 0, 5)
    again_model = copy.deepcopy(model)
    again = make(again_model.parameters())
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert train(model, opt, 5, 9) == train(again_model, again, 5, 9)
    for p, q in zip(model.parameters(), again_model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_complex_parameters_drift_as_their_real_parts():
    z = nn.Parameter(torch.tensor([2.0 + 1.0j, -1.0 + 0.5j], dtype=torch.complex128))
    p = nn.Parameter(torch.view_as_real(z.detach()).clone())
    scales = torch.tensor([1.0, 4.0], dtype=torch.float64)
    for kind in (lambda q: CLR(q, drift=0.1), lambda q: CLRAdam(q, drift=0.1)):
        complex_step = watched_step(kind([z]), z, lambda t: (scales * t.abs().square()).sum())
        real_step = watched_step(kind([p]), p, lambda t: (scales[:, None] * t.square()).sum())
        assert complex_step == pytest.approx(real_step, rel=1e-12)
        torch.testing.assert_close(torch.view_as_real(z.detach()), p.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: CLR(p, drift=0.0), "drift must be None or positive"),
        (lambda p: CLR(p, drift=1.0, every=0), "every must be a whole number"),
        (lambda p: CLRAdam(p, drift=None), "drift must be positive"),
        (lambda p: CLRAdam(p, momentum=1.0), "momentum must be a number in"),
    ],
)
def test_options_out_of_range_are_refused(parameter, make, message):
    with pytest.raises(ValueError, match=message):
        make([parameter([1.0])])

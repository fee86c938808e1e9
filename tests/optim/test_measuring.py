"""When the drift is measured, what of, and what is said where it cannot be."""

from __future__ import annotations

import math

import pytest
import torch
from tests.optim.test_drift import SCALES, quadratic, start, watched_step
from torch import nn

from corridor import CLR, CLRAdam
from corridor.optim import DAL

MEASURING = [lambda p: CLR(p, drift=1.0), CLRAdam, DAL]


@pytest.mark.parametrize("make", [lambda p: CLR(p, drift=1.0), CLRAdam])
def test_a_bare_loss_is_refused(parameter, make):
    p = parameter([1.0, 2.0], [1.0, 0.0])
    with pytest.raises(ValueError, match=r"needs the graph of the loss.*watch"):
        make([p]).step(loss=1.0)
    assert p.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("make", MEASURING)
def test_a_closure_that_does_not_watch_its_loss_is_told_to(make):
    p = start()
    opt = make([p])

    def closure():
        opt.zero_grad()
        loss = quadratic(p)
        loss.backward()
        return loss

    with pytest.raises(ValueError, match=r"which backward frees.*also in a closure") as error:
        opt.step(closure)
    assert "\n" not in str(error.value)
    assert torch.equal(p, start())


def test_a_closure_watches_its_loss():
    p = start()
    opt = CLR([p], drift=0.1)

    def closure():
        opt.zero_grad()
        loss = quadratic(p)
        opt.watch(loss).backward()
        return loss

    opt.step(closure)
    assert 0.0 < float(opt.param_groups[0]["effective_lr"]) < 0.2


def test_a_skipped_first_step_does_not_lose_the_measurement():
    """As a GradScaler's first overflow: the step is skipped, the ratio is known from then on."""
    p = start()
    opt = CLR([p], drift=1.0, every=10)
    opt.watch(quadratic(p)).backward()
    p.grad[0] = math.inf
    opt.step()
    assert int(opt.param_groups[0]["skipped"]) == 1
    h = watched_step(opt, p, quadratic)
    assert 0.0 < h <= 2.0 / float(opt.param_groups[0]["hessian_ratio"]) * (1.0 + 1e-12)


@pytest.mark.parametrize("make", [lambda p: CLR(p, drift=1.0), CLRAdam])
def test_a_first_measurement_that_is_not_finite_is_made_again_at_the_next_step(make):
    p = start()
    opt = make([p])
    for _ in range(2):
        watched_step(opt, p, lambda t: quadratic(t) * math.nan)
    assert torch.equal(p, start())
    assert math.isinf(float(opt.param_groups[0]["hessian_ratio"]))
    assert watched_step(opt, p, quadratic) > 0.0
    ratio = float(opt.param_groups[0]["hessian_ratio"])
    watched_step(opt, p, lambda t: 2.0 * quadratic(t))
    assert float(opt.param_groups[0]["hessian_ratio"]) == ratio  # from now on it is kept


@pytest.mark.parametrize("make", MEASURING)
@pytest.mark.parametrize("unit", [1e11, 1e-14])
def test_squares_of_the_product_may_leave_float32(make, unit: float):
    """A loss of 1e11 has ||Hg|| of 1e23, the square of which float32 does not hold."""
    p = nn.Parameter(start().detach().float())
    watched_step(make([p]), p, lambda t: unit * (SCALES.float() * t.square()).sum())
    q = start()
    watched_step(make([q]), q, lambda t: unit * (SCALES * t.square()).sum())
    torch.testing.assert_close(p.detach().double(), q.detach(), rtol=1e-4, atol=1e-5)
    assert not torch.equal(q, start())


@pytest.mark.parametrize("make", [lambda p: CLR(p, drift=0.1), lambda p: CLRAdam(p, drift=0.1)])
def test_micro_batches_are_limited_as_the_loss_they_make_up(make):
    """At every step: averaged they are the batch, added up they are four times the loss."""
    ways = {"batch": (1, 1.0), "mean": (4, 0.25), "sum": (4, 1.0), "weight": (1, 4.0)}
    ways |= {"before watch": (1, 1.0)}
    seen = {}
    for name, (parts, weight) in ways.items():
        p = start()
        opt = make([p])
        opt.param_groups[0]["every"] = 2
        seen[name] = []
        for _ in range(5):
            opt.zero_grad()
            for _ in range(parts):
                loss = quadratic(p) + 100.0
                if name == "before watch":
                    opt.watch(4.0 * loss).backward()
                else:
                    (opt.watch(loss) * weight).backward()
            opt.step()
            group = opt.param_groups[0]
            seen[name] += [float(group["effective_lr"]), float(group["hessian_ratio"])]
    assert seen["mean"] == pytest.approx(seen["batch"], rel=1e-9)
    for name in ("sum", "weight"):
        assert seen[name] == pytest.approx(seen["before watch"], rel=1e-7)  # eps is not scaled


def test_a_first_loss_of_weight_0_measures_nothing():
    """A warmup that starts at 0 leaves the ratio unknown, and the next step measures."""
    p = start()
    opt = CLRAdam([p], every=10)
    for weight in (0.0, 2.0):
        opt.zero_grad()
        (opt.watch(quadratic(p)) * weight).backward()
        opt.step()
    ratio = float(opt.param_groups[0]["hessian_ratio"])
    assert 0.0 < ratio < math.inf


def test_a_scalers_scale_is_no_part_of_the_limit():
    steps = []
    for scale in (None, 2.0**10):
        p = nn.Parameter(start().detach().float())
        opt = CLR([p], drift=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        loss = (SCALES.float() * p.square()).sum() + 100.0
        scaler.scale(opt.watch(loss)).backward()
        scaler.step(opt)
        steps.append(float(opt.param_groups[0]["effective_lr"]))
    assert steps[1] == pytest.approx(steps[0], rel=1e-5)


@pytest.mark.parametrize("make", MEASURING)
def test_clearing_the_gradients_clears_what_was_measured(make):
    p = start()
    opt = make([p])
    opt.watch(quadratic(p)).backward()
    opt.zero_grad()
    quadratic(p).backward()
    with pytest.raises(ValueError, match="needs the graph"):
        opt.step(loss=1.0)


@pytest.mark.parametrize("make", MEASURING)
def test_gradients_may_be_cleared_between_forward_and_backward(make):
    """Lightning's order: forward, zero_grad, backward, step."""
    steps = []
    for order in ("zero_grad first", "forward first"):
        p = start()
        opt = make([p])
        for _ in range(3):
            if order == "zero_grad first":
                opt.zero_grad()
            loss = opt.watch(quadratic(p))
            if order == "forward first":
                opt.zero_grad()
            loss.backward()
            opt.step()
        steps.append(p.detach())
    assert torch.equal(*steps)


@pytest.mark.parametrize("make", MEASURING)
def test_a_forward_that_is_never_differentiated_counts_for_nothing(make):
    ratios = []
    for evaluated in (False, True):
        p = start()
        opt = make([p])
        if evaluated:
            kept = opt.watch(1e3 * p.pow(4).sum())
        opt.watch(quadratic(p)).backward()
        opt.step()
        ratios.append(float(opt.param_groups[0]["hessian_ratio"]))
    assert ratios[0] == ratios[1]
    assert kept.requires_grad


@pytest.mark.parametrize("make", MEASURING)
def test_two_watched_losses_of_one_sum_are_refused_and_their_sum_is_not(make):
    p = start()
    opt = make([p])
    (opt.watch(quadratic(p)) + opt.watch(p.pow(4).sum())).backward()
    with pytest.raises(ValueError, match=r"one loss at a time, got 2.*watch\(a \+ b\)") as error:
        opt.step()
    assert "\n" not in str(error.value)
    assert torch.equal(p, start())
    assert watched_step(opt, p, lambda x: quadratic(x) + x.pow(4).sum()) > 0.0


def test_a_loss_differentiated_twice_counts_twice():
    p = start()
    opt = DAL([p])
    loss = opt.watch(quadratic(p))
    loss.backward(retain_graph=True)
    loss.backward()
    opt.step()
    once = watched_step(DAL([q := start()]), q, quadratic)
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(0.5 * once, rel=1e-11)

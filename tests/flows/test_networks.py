"""Test flows of networks: their tolerance, their cost, and the error estimate for ReLU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corridor.flows import (
    clr_descent,
    drift,
    fixed_step_flow,
    gradient_descent,
    gradient_flow,
    heavy_ball,
    modified_flow,
    network_loss,
)
from corridor.surfaces import Cone, Quadratic


def network(activation: type[nn.Module], width: int, seed: int = 0):
    """Return the loss and the model of a three-layer network on data of ten classes."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    layers = [nn.Linear(16, width), activation(), nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    inputs = torch.randn(64, 16, generator=generator)
    targets = torch.randint(10, (64,), generator=generator)
    return network_loss(model, nn.functional.cross_entropy, inputs, targets), model


def test_a_smooth_networks_flow_keeps_its_tolerance():
    """With 50,000 parameters, tolerances of 1e-6 and 1e-8 agree to 1e-5."""
    (loss, start), _ = network(nn.Tanh, 208)
    assert sum(p.numel() for p in start) > 49_000
    rough = gradient_flow(loss, start, 2.0, 1e-6)
    sharp = gradient_flow(loss, start, 2.0, 1e-8)
    ours, theirs = rough.flat()[-1], sharp.flat()[-1]
    moved = float((theirs - sharp.flat()[0]).norm())
    assert float((ours - theirs).norm()) < 1e-5 * moved
    assert 20 < rough.gradients < sharp.gradients < 2000
    assert float(rough.losses[-1]) < 0.9 * float(rough.losses[0])
    assert rough.step_sizes.sum() == pytest.approx(2.0)


def test_the_drift_of_three_methods_from_one_checkpoint():
    (loss, start), _ = network(nn.Tanh, 24)
    h = 0.1
    paths = {
        "descent": gradient_descent(loss, start, h, 10),
        "ball": heavy_ball(loss, start, h * 0.1, 10, momentum=0.9),
        "clr": clr_descent(loss, start, 3, max_lr=0.5),
    }
    found = {name: drift(path, loss, tolerance=1e-8) for name, path in paths.items()}
    for name, one in found.items():
        assert len(one.distance) == len(paths[name])
        assert float(one.distance[-1]) > 0.0
    half = drift(gradient_descent(loss, start, h / 2, 20), loss, tolerance=1e-8)
    ratio = float(found["descent"].distance[-1] / half.distance[-1])
    assert ratio == pytest.approx(2.0, abs=0.2)


def test_the_principal_flow_of_a_network_by_lanczos_follows_descent_more_closely():
    (loss, start), _ = network(nn.Tanh, 12)
    path = gradient_descent(loss, start, 0.2, 5)
    plain = drift(path, loss, tolerance=1e-8)
    flow = modified_flow(
        loss, start, 1.0, 1e-7, kind="principal", step_size=0.2, krylov=12, at=path.times
    )
    better = drift(path, flow)
    assert float(better.distance[-1]) < 0.5 * float(plain.distance[-1])


def test_the_error_of_a_relu_networks_flow_is_below_its_estimate():
    (loss, start), _ = network(nn.ReLU, 24)
    exact = fixed_step_flow(loss, start, 2.0, safety=0.004)
    for safety in (1.0, 0.3):
        path = fixed_step_flow(loss, start, 2.0, safety=safety)
        assert path.error is not None
        true = float((path.flat()[-1] - exact.flat()[-1]).norm())
        estimate = float(path.error[-1])
        assert true < estimate
        assert estimate < 0.1 * float((path.flat()[-1] - path.flat()[0]).norm())
        assert path.stopped == "time"
    assert path.gradients < exact.gradients / 4


def test_on_smooth_losses_the_estimate_falls_with_the_fourth_power():
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    errors = [float(fixed_step_flow(Quadratic(), x, 1.0, safety=s).error[-1]) for s in (0.1, 0.05)]
    assert errors[0] / errors[1] == pytest.approx(16.0, rel=0.15)


def test_the_model_stays_unchanged():
    (loss, start), model = network(nn.Tanh, 8)
    before = [p.detach().clone() for p in model.parameters()]
    gradient_flow(loss, start, 0.5, 1e-5)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())
    normed = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    x, y = torch.randn(12, 3), torch.randn(12, 1)
    loss, start = network_loss(normed, nn.functional.mse_loss, x, y)
    gradient_flow(loss, start, 0.2, 1e-5)
    mean = normed[1].running_mean
    assert isinstance(mean, torch.Tensor)
    assert not mean.any()


def test_bad_input_is_one_line():
    x = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"safety must be in \(0, 2\]"):
        fixed_step_flow(Cone(), x, safety=3.0)
    with pytest.raises(ValueError, match="time must be a finite number"):
        fixed_step_flow(Cone(), x, float("inf"))
    frozen = nn.Linear(2, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="must have a parameter that requires a gradient"):
        network_loss(frozen, nn.functional.mse_loss, x, x)
    spent = fixed_step_flow(Quadratic(), x, 5.0, max_gradients=60)
    assert spent.stopped == "budget"
    assert spent.gradients <= 60

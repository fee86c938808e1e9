"""The formulas of the papers and of the trial forms, on two numbers, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from benchmarks.practice import entrant as entrants
from benchmarks.practice.averaged import Averaged, Spectral
from benchmarks.practice.entrants.distance_muon import DistanceMuon, spectral_norm
from benchmarks.practice.entrants.nadamw import NadamW
from benchmarks.practice.entrants.polyak_schedule_free import PolyakScheduleFree
from benchmarks.practice.entrants.schedule_free_plus import ScheduleFreePlus
from benchmarks.practice.entrants.sf_normuon import SFNorMuon
from benchmarks.practice.matrices import polar
from torch import nn


class Line(nn.Module):
    """Two numbers with the loss ``<c, theta> + 5``, whose gradient is c."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))

    def value(self):
        return (torch.tensor([0.6, -0.2], dtype=torch.float64) * self.theta).sum() + 5


def walk(optimizer, model, steps, loss):
    """Take steps and return the losses."""
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = model.value()
        found.append(value.item())
        value = optimizer.watch(value) if loss == "watch" else value
        value.backward()
        optimizer.step(loss=value.detach()) if loss == "step" else optimizer.step()
    return found


G = torch.tensor([0.6, -0.2], dtype=torch.float64)
U = G.sign()  # the gradient never changes, so that Adam's direction is its sign
ROUNDING = {"rtol": 1e-6, "atol": 1e-6}  # eps = 1e-8 stands beside gradients of 0.2


def assert_close(a, b):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), **ROUNDING)


def test_schedule_free_plus_follows_the_paper():
    model = Line()
    start = model.theta.detach().clone()
    optimizer = ScheduleFreePlus(model, beta=0.7, decay=0.1)
    losses = walk(optimizer, model, 2, "step")
    length = math.sqrt(math.pi / 2) * 0.8
    first = losses[0] / length
    z1 = start - first**2 * 0.1 * start - first * U
    second = (losses[1] + 0.7 * 0.0) / length  # after the first step x = z
    z2 = z1 - second**2 * 0.1 * z1 - second * U
    top = max(first, second)
    x2 = z1 + top**2 / (first**2 + top**2) * (z2 - z1)
    assert_close(optimizer.z[0], z2)
    assert_close(optimizer.x[0], x2)
    assert_close(model.theta.detach(), 0.3 * z2 + 0.7 * x2)
    optimizer.eval()
    assert_close(model.theta.detach(), x2)


def test_schedule_free_plus_warms_up():
    model = Line()
    optimizer = ScheduleFreePlus(model, warmup=4)
    (loss,) = walk(optimizer, model, 1, "step")
    assert optimizer.alpha == pytest.approx(loss / 4 / (math.sqrt(math.pi / 2) * 0.8))
    assert_close(optimizer.x[0], optimizer.z[0])


def test_polyak_schedule_free_follows_the_paper():
    model = Line()
    start = model.theta.detach().clone()
    optimizer = PolyakScheduleFree(model, f_star=1.0, beta=0.7)
    losses = walk(optimizer, model, 2, "step")
    first = (losses[0] - 1) / 0.8
    z1 = start - first * U
    x1 = start + (z1 - start) / 2
    second = (losses[1] - 1 + 0.7 * float(G @ (z1 - x1))) / 0.8
    z2 = z1 - second * U
    assert_close(optimizer.z[0], z2)
    assert_close(optimizer.x[0], x1 + (z2 - x1) / 3)


def test_polyak_schedule_free_guards_its_denominator():
    model = Line()
    optimizer = PolyakScheduleFree(model, safeguard=100.0)
    (loss,) = walk(optimizer, model, 1, "step")
    assert optimizer.h == pytest.approx(loss / 100)


def matrices():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 4), nn.Linear(4, 2)).double()


def exact(matrix):
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ v


def backward(model, step):
    """Set gradients of full rank, whose polar factors are unique."""
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, dtype=p.dtype, generator=generator)


def test_sf_normuon_follows_the_paper(monkeypatch):
    model = matrices()
    monkeypatch.setattr("benchmarks.practice.entrants.sf_normuon.polar", exact)
    optimizer = SFNorMuon(model, rate=0.1, warmup=2, decay=0.3)
    z, x = (model[0].weight.detach().clone() for _ in range(2))
    m = torch.zeros_like(z)
    v, total = torch.zeros(5, 1, dtype=torch.float64), 0.0
    for step, eta in enumerate((0.05, 0.1)):
        backward(model, step)
        m = 0.8 * m + 0.2 * model[0].weight.grad
        p = exact(m)
        v = 0.95 * v + 0.05 * (p**2).mean(dim=1, keepdim=True)
        p = p / (v.sqrt() + 1e-8)
        z = z - eta * 0.3 * z - 0.2 * eta * math.sqrt(30) / p.norm() * p
        total += eta**2
        x = x + eta**2 / total * (z - x)
        optimizer.step()
    assert_close(optimizer.z[0], z)
    assert_close(optimizer.x[0], x)
    assert_close(model[0].weight.detach(), 0.1 * z + 0.9 * x)


def test_distance_muon_steps_by_the_explored_radius(monkeypatch):
    model = matrices()
    monkeypatch.setattr("benchmarks.practice.entrants.distance_muon.polar", exact)
    optimizer = DistanceMuon(model, radius=0.1, momentum=0.5)
    start = model[0].weight.detach().clone()
    m, moved = torch.zeros_like(start), start.clone()
    for t in (1, 2, 3):
        backward(model, t)
        m = 0.5 * m + 0.5 * model[0].weight.grad
        radius = max(0.1, float(torch.linalg.matrix_norm(moved - start, ord=2)))
        moved = moved - radius / math.sqrt(t) * exact(m)
        optimizer.step()
    assert_close(model[0].weight.detach(), moved)
    assert radius > 0.1
    assert spectral_norm(start) == pytest.approx(float(torch.linalg.matrix_norm(start, ord=2)))


def test_nadamw_looks_one_step_ahead():
    model = Line()
    optimizer = NadamW(model.parameters(), lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)
    walk(optimizer, model, 1, "no")
    ahead = (0.9 * 0.1 + 0.1) / 0.1  # m = 0.1 g, and 1 - beta1 = 0.1
    start = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert_close(model.theta.detach(), 0.95 * start - 0.1 * ahead * U)


def test_the_average_follows_its_formulas():
    model = Line()
    start = model.theta.detach().clone()
    optimizer = Averaged(model, 1.0, beta=0.7, c0=0.1)
    losses = walk(optimizer, model, 3, "watch")
    norm = 0.8  # <g, P g>
    far, z, x, mean, weights, norms = 0.1 * (losses[0] - 1) / math.sqrt(norm), start, start, 0, 0, 0
    for t, loss in enumerate(losses, start=1):
        far = max(far, math.sqrt(float(((z - start) ** 2 * G.abs()).sum())))
        norms += t * norm
        h1 = (loss - 1 + 0.7 * float(G @ (z - x))) / norm
        h3 = far / math.sqrt(t * norms / (t * (t + 1) / 2))
        mean = 0.9 * mean + 0.1 * (loss - 1)
        w = t / (mean / (1 - 0.9**t)) ** 2
        weights += w
        z = z - min(h1, h3) * U
        x = x + w / weights * (z - x)
    assert_close(optimizer.z[0], z)
    assert_close(optimizer.x[0], x)
    assert optimizer.h == pytest.approx(min(h1, h3), rel=1e-6)


def test_the_average_arrives_in_a_corridor_by_the_loss_limit_alone():
    model = Line()
    optimizer = Averaged(model, 1.0, c0=1e3)
    walk(optimizer, model, 1, "watch")
    assert model.value().item() == pytest.approx(1.0, abs=1e-6)


def test_a_factor_on_the_loss_changes_no_step():
    ends = []
    for factor in (1.0, 64.0):
        model = Line()
        model.value = lambda own=model, k=factor: k * Line.value(own)
        walk(Averaged(model, factor, eps=0.0), model, 3, "watch")
        ends.append(model.theta.detach().clone())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


class Bowl(nn.Module):
    """Three numbers with the loss ``<theta, H theta> / 2``."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))

    def value(self):
        return (torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64) * self.theta**2).sum() / 2


def test_the_drift_limit_is_measured_along_the_direction():
    model = Bowl()
    optimizer = Averaged(model, 0.0, c0=1e3, drift=0.1)
    walk(optimizer, model, 1, "watch")
    h = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    g = h * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    hu = h * g.sign()
    ratio = math.sqrt(float((hu**2 / g.abs()).sum() / g.abs().sum()))
    assert optimizer.h == pytest.approx(0.2 / ratio, rel=1e-6)


def test_spectral_steps_go_along_polar_factors():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 16), nn.Linear(16, 16), nn.Linear(16, 2))
    optimizer = Spectral(model, 0.0)
    assert optimizer.places == [0, 2]
    loss = optimizer.watch(model(torch.randn(8, 24)).square().mean())
    loss.backward()
    g = model[0].weight.grad.clone()
    start = model[0].weight.detach().clone()
    optimizer.step()
    expected = math.sqrt(24) * polar(g)
    torch.testing.assert_close(start - optimizer.z[0], optimizer.h * expected, rtol=1e-4, atol=1e-6)


def test_the_schedule_warms_up_and_ends_near_zero():
    factors = [entrants.cosine_factor(step, 100, 5) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert max(factors) == 1.0
    assert 0 < factors[-1] < 1e-3

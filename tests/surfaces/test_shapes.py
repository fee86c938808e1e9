"""Distances against brute force, curves by their nearest point, grids against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from corridor.surfaces import (
    Box,
    Curve,
    DistanceTo,
    EikonalGrid,
    FixedStep,
    Segment,
    Sphere,
    flower,
)


def test_boxes_and_segments_agree_with_the_nearest_of_many_points():
    ticks = torch.linspace(-1.0, 1.0, 4001, dtype=torch.float64)
    ones = torch.ones_like(ticks)
    edges = [
        torch.stack(p, -1) for p in ((ticks, ones), (ticks, -ones), (ones, ticks), (-ones, ticks))
    ]
    border = torch.cat(edges) * torch.tensor([1.0, 0.5])
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    brute = torch.cdist(x, border).amin(1)
    assert float((Box([1.0, 0.5])(x).abs() - brute).abs().max()) < 1e-4
    line = torch.stack([ticks, 0.5 * ticks], -1)
    assert (
        float((Segment([-1.0, -0.5], [1.0, 0.5])(x) - torch.cdist(x, line).amin(1)).abs().max())
        < 1e-4
    )


def test_a_curves_distance_is_that_of_its_nearest_point():
    curve = flower()
    t = torch.linspace(0.0, 2.0 * math.pi, 200_001, dtype=torch.float64)
    x = 1.5 * torch.randn(30, 2, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    brute = torch.cdist(x, curve.point(t)).amin(1)
    assert float((curve(x).abs() - brute).abs().max()) < 1e-8
    r, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    inside = r < 1.0 + 0.18 * torch.cos(5 * angle)
    assert torch.equal(curve(x) < 0.0, inside)


def test_a_curves_depth_is_the_radius_of_its_largest_circle():
    ellipse = Curve(lambda t: torch.stack([2.0 * t.cos(), t.sin()], -1))
    assert ellipse.depth == pytest.approx(1.0, abs=1e-9)
    assert DistanceTo(Sphere(radius=0.7), absolute=False, slope=2.0).f_star == -1.4


def test_a_grid_of_a_circle_converges_to_its_distance():
    """Third order in the gradient, second in Hg: the spline's."""
    pytest.importorskip("skfmm")
    x = 1.9 * (2.0 * torch.rand(500, 2, generator=torch.Generator().manual_seed(0)).double() - 1.0)
    x = x[x.norm(dim=1) > 0.5].requires_grad_()
    slopes, bends, misses = [], [], []
    for cells in (50, 100, 200):
        loss = EikonalGrid(lambda q: q.square().sum(-1) - 1.0, [(-2.0, 2.0)] * 2, cells=cells)
        (g,) = torch.autograd.grad(loss(x).sum(), x, create_graph=True)
        (Hg,) = torch.autograd.grad(0.5 * g.square().sum(), x)
        misses.append(float((loss(x) - (x.norm(dim=1) - 1.0)).detach().abs().max()))
        slopes.append(float((g.detach().norm(dim=1) - 1.0).abs().max()))
        bends.append(float(Hg.norm(dim=1).max()))
    assert misses[1] < 1e-4
    assert slopes[1] < 2e-5
    assert slopes[0] / slopes[2] > 4**2.5
    assert bends[0] / bends[2] > 4**1.6


def test_a_grid_of_a_sphere_and_of_a_flower():
    pytest.importorskip("skfmm")
    ball = EikonalGrid(lambda q: q.norm(dim=-1) - 1.0, [(-1.6, 1.6)] * 3, cells=20, slope=2.0)
    x = torch.tensor([0.9, 0.7, -0.6], dtype=torch.float64)
    assert float(ball(x)) == pytest.approx(2.0 * (float(x.norm()) - 1.0), abs=1e-3)

    def petals(q):
        angle = torch.atan2(q[..., 1], q[..., 0])
        return q.norm(dim=-1) - 1.0 - 0.18 * torch.cos(5 * angle)

    grid = EikonalGrid(petals, [(-2.0, 2.0)] * 2, cells=120)
    x = torch.tensor([[1.6, 0.4], [-1.0, 1.2], [0.3, -1.7]], dtype=torch.float64)
    assert float((grid(x) - flower()(x)).abs().max()) < 1e-4


def test_a_grid_without_a_zero_set_is_one_line():
    pytest.importorskip("skfmm")
    with pytest.raises(ValueError, match="changes sign nowhere"):
        EikonalGrid(lambda q: q.square().sum(-1) + 1.0, [(-1.0, 1.0)] * 2)


def test_the_fixed_step_loss_has_the_derivatives_it_claims():
    loss = FixedStep()
    x = loss.at_time(torch.linspace(0.05, 0.9, 7, dtype=torch.float64))[:, None]
    assert torch.autograd.gradcheck(lambda q: loss(q), (x.requires_grad_(),))
    assert torch.autograd.gradgradcheck(lambda q: loss(q), (x,))

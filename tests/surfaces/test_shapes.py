"""Distances against brute force, curves by their nearest point, level sets against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from corridor.surfaces import (
    Box,
    Curve,
    DistanceTo,
    FixedStep,
    LevelSet,
    Points,
    Segment,
    Shape,
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
    spacing = 2.0 / 4000
    assert float((Box([1.0, 0.5])(x).abs() - brute).abs().max()) < 0.5 * spacing
    line = torch.stack([ticks, 0.5 * ticks], -1)
    found = Segment([-1.0, -0.5], [1.0, 0.5])(x)
    assert float((found - torch.cdist(x, line).amin(1)).abs().max()) < 0.6 * spacing


def test_points_are_as_far_as_the_nearest_of_them():
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    cloud = Points(rows.tolist())
    near = torch.cdist(x, rows).sort(1).values
    torch.testing.assert_close(cloud(x), near[:, 0])
    room = torch.minimum(near[:, 0], (near[:, 1] - near[:, 0]) / 2.0)
    torch.testing.assert_close(cloud.focal(x), room)


def test_a_curves_distance_is_that_of_its_nearest_point():
    curve = flower()
    t = torch.linspace(0.0, 2.0 * math.pi, 200_001, dtype=torch.float64)
    x = 1.5 * torch.randn(30, 2, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    brute = torch.cdist(x, curve.point(t)).amin(1)
    # cdist has half of the digits; the samples are nearer to each other than that shows.
    assert float((curve(x).abs() - brute).abs().max()) < 1e-6
    r, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    inside = r < 1.0 + 0.18 * torch.cos(5 * angle)
    assert torch.equal(curve(x) < 0.0, inside)


def test_a_curves_depth_is_the_radius_of_its_largest_circle():
    ellipse = Curve(lambda t: torch.stack([2.0 * t.cos(), t.sin()], -1))
    assert ellipse.depth == pytest.approx(1.0, abs=1e-9)
    assert DistanceTo(Sphere(radius=0.7), absolute=False, slope=2.0).f_star == -1.4


@pytest.mark.parametrize("half", [[1.0, 0.5], [1.0, 0.5, 0.7]])
def test_the_room_of_a_box_ends_at_its_middle_planes(half):
    """There the nearest of two opposite faces changes, also for a point beyond one face."""
    box, widths = Box(half), torch.tensor(half, dtype=torch.float64)
    x = torch.rand(400, len(half), generator=torch.Generator().manual_seed(5), dtype=widths.dtype)
    x = (2.0 * x - 1.0) * 1.3 * widths
    for i in range(len(half)):
        kink = x.clone()
        kink[:, i] = 0.0
        beyond = kink.abs() - widths
        meets = (beyond.argmax(1) == i) & (beyond < 0.0).all(1)
        assert meets.any() == (widths[i] == widths.min())
        assert not box.focal(kink[meets]).any()
        assert (box.focal(x[meets]) <= x[meets, i].abs()).all()
    change = (box.focal(x)[:, None] - box.focal(x)).abs()
    assert (change <= (x[:, None] - x).norm(dim=-1) + EPS).all()
    thin = DistanceTo(Box([1.0, 0.1]), absolute=False).domain.margin
    assert float(thin(torch.tensor([0.0, 0.11], dtype=torch.float64))) == pytest.approx(0.11)


def test_a_cusp_of_a_curve_leaves_a_finite_room():
    """The astroid has four."""
    star = Curve(lambda t: torch.stack([t.cos() ** 3, t.sin() ** 3], -1))
    x = torch.tensor([[1.0, 1.0], [0.3, 0.2]], dtype=torch.float64)
    assert (star.focal(x) > 0.0).all()


EPS = torch.finfo(torch.float64).eps


class Line(Shape):
    """The axis y = 0, whose function has no second derivatives."""

    dimension = 2

    def __call__(self, x):
        return x[..., 1]

    def focal(self, x):
        return torch.full_like(x[..., 1], torch.inf)


LINE = Line()


def petals(q):
    angle = torch.atan2(q[..., 1], q[..., 0])
    return 3.0 * (q.norm(dim=-1) - 1.0 - 0.18 * torch.cos(5 * angle))


@pytest.mark.parametrize(
    ("function", "bounds", "shape"),
    [
        (lambda q: q.square().sum(-1) - 1.0, [(-2.0, 2.0)] * 2, Sphere()),
        (lambda q: 1.0 - q.norm(dim=-1) / 1.2, [(-1.6, 1.6)] * 3, Sphere([0.0] * 3, 1.2)),
        (petals, [(-2.0, 2.0)] * 2, flower()),
        (lambda q: q[..., 1], [(-2.0, 2.0)] * 2, LINE),
    ],
)
def test_a_level_set_has_the_distance_of_its_shape(function, bounds, shape):
    """Values, gradients and Hessians, also off a convex set; the sign is the function's."""
    level = LevelSet(function, bounds, cells=24 if len(bounds) == 3 else 100)
    x = DistanceTo(shape).sample(20, spread=1.2, seed=4)
    sign = float(torch.sign(function(x[0])) * torch.sign(shape(x[0])))
    torch.testing.assert_close(level(x), sign * shape(x), rtol=0.0, atol=1e-9)
    for point in x[:6]:
        for of in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
            torch.testing.assert_close(of(level, point), sign * of(shape, point), rtol=0, atol=1e-7)
    assert (level.focal(x) > 0.0).all()


def test_a_level_set_is_a_corridor_in_any_dtype_and_shape():
    loss = DistanceTo(LevelSet(petals, [(-2.0, 2.0)] * 2), slope=2.0, absolute=False)
    x = loss.sample(12, seed=1).requires_grad_()
    (g,) = torch.autograd.grad(loss(x).sum(), x, create_graph=True)
    (Hg,) = torch.autograd.grad(0.5 * g.square().sum(), x)
    assert float((g.detach().norm(dim=1) - 2.0).abs().max()) < 1e4 * EPS
    assert float(Hg.norm(dim=1).max()) < 1e6 * EPS
    x = x.detach().float().reshape(3, 4, 2)
    assert (loss(x).dtype, loss(x).shape) == (torch.float32, (3, 4))
    assert (loss.f_star, DistanceTo(loss.shape).f_star) == (-math.inf, 0.0)


def test_two_branches_bound_the_room_of_a_level_set():
    """Of two circles the points between are equally near to both."""
    circles = LevelSet(
        lambda q: torch.minimum((q - 2.0).norm(dim=-1), (q + 2.0).norm(dim=-1)) - 1.0,
        [(-4.0, 4.0)] * 2,
    )
    x = torch.tensor([[0.1, 0.1], [1.0, 0.0], [0.5, -0.5]], dtype=torch.float64)
    room = x.sum(1).abs() / 2.0**0.5
    assert (circles.focal(x) <= room + 0.05).all()
    assert (circles.focal(x) >= 0.5 * room - 0.05).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LevelSet(lambda q: q.square().sum(-1) + 1.0, [(-1.0, 1.0)] * 2), "must be 0 some"),
        (lambda: LevelSet(lambda q: q[..., 0], [(-1.0, 1.0)]), "2 or 3 pairs"),
        (lambda: Curve(lambda t: torch.stack([t, t], -1)), "must be smooth"),
        (lambda: Curve(lambda t: torch.stack([t.cos()] * 3, -1)), "must have dimension 2"),
        (lambda: LevelSet(lambda q: q[..., :1], [(-1, 1)] * 2), "one number per point"),
        (lambda: DistanceTo(lambda q: q[..., :1], dimension=2), "one number per point"),
        (lambda: Box([1.0]), "two or more positive numbers"),
        (lambda: Sphere(radius=0.0), "radius must be positive, got 0.0"),
    ],
)
def test_shapes_that_cannot_be_are_one_line(make, words):
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "view",
    [
        lambda q: q.flip(-1)[..., 0],
        lambda q: torch.stack([q[..., 1], q[..., 0]])[0],
        lambda q: q[..., 1:].squeeze(-1),
        lambda q: q.unbind(-1)[1],
    ],
)
def test_views_are_read_by_their_strides(view):
    x = torch.tensor([[0.3, 0.7], [1.0, -0.4], [-1.0, 0.2]], dtype=torch.float64)
    level = LevelSet(view, [(-2.0, 2.0)] * 2)
    torch.testing.assert_close(level(x), x[:, 1])
    torch.testing.assert_close(DistanceTo(view, dimension=2)(x), x[:, 1])
    wide = torch.empty(2, 7, dtype=torch.float64).mT[1:4]
    wide.copy_(x)
    torch.testing.assert_close(level(wide), x[:, 1])
    ring = Curve(lambda t: torch.stack([t.cos(), t.sin()]).mT)
    torch.testing.assert_close(ring(wide), x.norm(dim=1) - 1.0)


def test_the_grid_that_went_names_its_successor():
    with pytest.raises(ImportError, match="use DistanceTo\\(LevelSet"):
        from corridor.surfaces import EikonalGrid  # noqa: F401  # pyright: ignore


def test_the_fixed_step_loss_has_the_derivatives_it_claims():
    loss = FixedStep()
    x = loss.at_time(torch.linspace(0.05, 0.9, 7, dtype=torch.float64))[:, None]
    assert torch.autograd.gradcheck(lambda q: loss(q), (x.requires_grad_(),))
    assert torch.autograd.gradgradcheck(lambda q: loss(q), (x,))

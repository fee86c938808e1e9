"""Every surface is what it says: speed, infimum, domain, verdict, against dense derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from corridor.surfaces import (
    SURFACES,
    Box,
    Cone,
    Curve,
    DistanceTo,
    Expression,
    Glued,
    Linear,
    NuclearNorm,
    Points,
    Quadratic,
    Segment,
    SpectralNorm,
    Sphere,
    Surface,
    Verdict,
    flower,
    landscape,
    surface,
)

EPS = torch.finfo(torch.float64).eps
EXACT = 1e4 * EPS  # a surface takes some hundred operations


def derivatives(loss: Surface, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient [n] and Hessian [n, n] at one point, matrices flattened."""
    flat = x.reshape(-1)
    g, H = (
        of(lambda q: loss(q.reshape(x.shape)), flat)
        for of in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian)
    )
    return g, H


@pytest.mark.parametrize("name", SURFACES)
def test_the_verdict_is_that_of_the_dense_hessian(name: str):
    loss = surface(name)
    crooked, bent = [], []
    for x in loss.sample(30, seed=3):
        g, H = derivatives(loss, x)
        size = float(g.norm() * torch.linalg.matrix_norm(H, 2))
        if size < 100 * EXACT:  # H is rounding alone
            continue
        Hg = H @ g
        crooked.append(float(Hg.norm()) / size)
        bent.append(float((Hg - g * (g @ Hg) / (g @ g)).norm()) / size)
    if loss.is_corridor:
        assert max(crooked, default=0.0) < EXACT
    else:
        assert max(crooked) > 0.1
        straight = max(bent) < EXACT
        assert straight == (loss.verdict is Verdict.WEAK)


@pytest.mark.parametrize("name", SURFACES)
def test_speed_and_steepest_bound_the_gradient(name: str):
    loss = surface(name)
    norms = [float(derivatives(loss, x)[0].norm()) for x in loss.sample(20, seed=4)]
    assert max(norms) <= loss.steepest * (1.0 + EXACT)
    if loss.speed is not None:
        assert norms == pytest.approx([loss.speed] * 20, abs=EXACT)


@pytest.mark.parametrize("name", SURFACES)
def test_no_point_lies_below_the_infimum(name: str):
    loss = surface(name)
    x = loss.sample(1000, spread=1.5)
    assert float(loss(x).min()) >= loss.f_star - EXACT


OTHERS = {
    "box in space": lambda: DistanceTo(Box([1.0, 0.5, 0.7]), absolute=False),
    "absolute box": lambda: DistanceTo(Box([1.0, 0.5])),
    "absolute flower": lambda: DistanceTo(flower()),
    "ellipse of curves": lambda: DistanceTo(ELLIPSE, absolute=False),
    "knot": lambda: DistanceTo(KNOT),
    "segment in space": lambda: DistanceTo(Segment([0.0, 0.0, 0.0], [1.0, 1.0, 0.0])),
    "glued cones": lambda: Glued([Cone(), DistanceTo(Points([[1.0, 1.0]]), slope=-2.0)]),
}
ELLIPSE = Curve(lambda t: torch.stack([2.0 * t.cos(), 0.7 * t.sin()], -1))
KNOT = Curve(
    lambda t: (
        torch.stack([t.sin() + 2 * (2 * t).sin(), t.cos() - 2 * (2 * t).cos(), (3 * t).sin()]).mT
    ),
    signed=False,
)
GALLERY = {**SURFACES, **OTHERS}


@pytest.mark.parametrize("name", GALLERY)
def test_an_exact_margin_is_1_lipschitz(name: str):
    """Along lines, nearby points show it more often than far ones."""
    domain = GALLERY[name]().domain
    x = GALLERY[name]().sample(60, spread=1.5, seed=5)
    generator = torch.Generator().manual_seed(2)
    for step in (3.0, 0.3, 0.03):
        way = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        way *= step / way.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.dim() - 1))
        change = (domain.margin(x + way) - domain.margin(x)).nan_to_num(0.0).abs()
        assert not domain.exact or float(change.max()) <= step + 1e-9


@pytest.mark.parametrize("name", GALLERY)
def test_a_ball_of_the_margin_holds_no_kink(name: str):
    """Within the margin the gradient is continuous: halving a segment halves its jump."""
    loss = GALLERY[name]()
    generator = torch.Generator().manual_seed(1)
    for x in loss.sample(12, seed=6):
        room = min(float(loss.domain.margin(x)), 1.0)
        ways = torch.randn(8, *x.shape, generator=generator, dtype=x.dtype)
        ways *= 0.98 * room / ways.flatten(1).norm(dim=1).reshape(-1, *[1] * x.dim())
        ends = torch.linspace(0.0, 1.0, 129, dtype=x.dtype)
        paths = x + ends.reshape(-1, *[1] * (x.dim() + 1)) * ways
        values = paths.requires_grad_()
        losses = loss(values)
        assert torch.isfinite(losses).all()
        (g,) = torch.autograd.grad(losses.sum(), values)
        jumps = (g[1:] - g[:-1]).flatten(2).norm(dim=2)
        assert (jumps.amax(0) <= 0.4 * jumps.sum(0) + 1e-9).all()


@pytest.mark.parametrize("n", [2, 5, 50])
@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_cones_of_any_dimension(n: int, slope: float):
    """Examples 2.3 and 2.4 at 100 random points."""
    x = torch.randn(100, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    x.requires_grad_()
    (g,) = torch.autograd.grad(Cone(slope)(x).sum(), x, create_graph=True)
    (Hg,) = torch.autograd.grad(0.5 * g.square().sum(), x)
    assert float(Hg.norm(dim=1).max()) <= 100 * n * EPS
    assert float((g.detach().norm(dim=1) - 1.0).abs().max()) <= 100 * n * EPS


def test_glued_pieces_have_constant_speeds():
    """Example 2.6: Hg = 0 off the seams, a constant speed a piece, failures only at a seam."""
    loss = landscape()
    generator = torch.Generator().manual_seed(0)
    x = 6.0 * torch.rand(4000, 2, generator=generator, dtype=torch.float64) - 3.0
    x.requires_grad_()
    (g,) = torch.autograd.grad(loss(x).sum(), x, create_graph=True)
    (Hg,) = torch.autograd.grad(0.5 * g.square().sum(), x)
    fails = ~(Hg.norm(dim=1) < 100 * EXACT)
    assert float(fails.double().mean()) <= 0.01
    assert float(loss.domain.margin(x.detach())[fails].max() if fails.any() else 0.0) < 1e-2
    speeds = g.detach().norm(dim=1)
    known = torch.tensor([math.hypot(0.35, 0.15), 0.9, 1.5, 0.7, 1.5, 1.3], dtype=torch.float64)
    nearest = (speeds[:, None] - known).abs().amin(1)
    assert float(nearest.quantile(0.99)) < EXACT
    assert all(((speeds - k).abs() < EXACT).sum() > 20 for k in known)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-3.0, 3.0), st.floats(-3.0, 3.0), st.floats(0.1, 3.0), st.floats(-2.0, 2.0),
    st.floats(0.0, 6.28),
)  # fmt: skip
def test_corridors_stay_corridors_when_moved_and_scaled(a, b, slope, level, angle):
    across, along = math.sin(angle), math.cos(angle)
    turn = torch.tensor([[along, -across], [across, along]], dtype=torch.float64)
    inner = Sphere([a, b], 1.0)
    loss = DistanceTo(lambda x: inner(x @ turn), slope=slope, level=level, dimension=2)
    x = torch.tensor([[4.0, 5.5]], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(loss(x).sum(), x, create_graph=True)
    (Hg,) = torch.autograd.grad(0.5 * g.square().sum(), x)
    assert float(g.detach().norm()) == pytest.approx(slope, rel=EXACT)
    assert float(Hg.norm()) <= EXACT * max(1.0, slope**2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Cone(0.0), "slope must not be 0"),
        (lambda: surface("kone"), "unknown surface 'kone'; use one of linear"),
        (lambda: Quadratic([[1.0, 2.0], [0.0, 1.0]]), "square and symmetric"),
        (lambda: Glued([Linear([1.0]), Linear([1.0, 2.0])]), r"equal dimensions, got \[1, 2\]"),
        (lambda: Linear([1.0, 2.0])(torch.zeros(3)), "must have dimension 2, got 3"),
        (lambda: Cone()(torch.tensor([3, 4])), "floating dtype, got dtype torch.int64"),
        (lambda: Cone()([3.0, 4.0]), "got list"),  # pyright: ignore
        (lambda: NuclearNorm()(torch.zeros(2, 2)), "must be 3 x 2 matrices"),
        (lambda: Linear([math.nan]), "vector of finite numbers"),
    ],
)
def test_what_cannot_be_is_one_line(make, words):
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def test_the_margin_of_an_unbounded_slope_is_an_estimate():
    well = Glued([Quadratic(), Cone(2.0)])
    assert not well.domain.exact
    assert not Glued([well, Cone()]).domain.exact
    assert landscape().domain.exact


def test_float32_points_stay_float32():
    for name in ("cone", "landscape", "block-cone", "segment"):
        x = surface(name).sample(3).float()
        assert surface(name)(x).dtype == torch.float32


@pytest.mark.parametrize("norm", [NuclearNorm(4, 3), SpectralNorm(4, 3)])
def test_norms_of_matrices_of_any_dtype_and_value(norm: Surface):
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        low = x.to(dtype)
        assert norm(low).dtype == norm.domain.margin(low).dtype == dtype
        assert norm(low).tolist() == pytest.approx(norm(x).tolist(), rel=4 * torch.finfo(dtype).eps)
    x[0, 0, 0] = math.nan
    x.requires_grad_()
    (g,) = torch.autograd.grad(norm(x).sum(), x)
    assert torch.isnan(g).all(-1).all(-1).tolist() == [True, False]
    assert (
        torch.isnan(norm(x)).tolist()
        == torch.isnan(norm.domain.margin(x)).tolist()
        == [True, False]
    )


@pytest.mark.parametrize("name", SURFACES)
def test_one_number_is_a_point_of_dimension_one(name: str):
    loss = surface(name)
    x = torch.tensor(0.7, dtype=torch.float64)
    if loss.dimension in (None, 1) and loss.point_dims == 1:
        torch.testing.assert_close(loss(x), loss(x[None]), equal_nan=True)
        torch.testing.assert_close(loss.domain.margin(x), loss.domain.margin(x[None]))
    else:
        with pytest.raises(ValueError, match=r"points of \w+ must be \[..., "):
            loss(x)


FORMULAS = {  # with a point, and the distance to the nearest kink if it is known
    "abs(x)": ([-0.3], 0.3),
    "abs(x**2 - 1)": ([0.01], 0.99),
    "abs(exp(x) - 1)": ([-5.0], 5.0),
    "sqrt(x**2 + y**2)": ([3.0, 4.0], 5.0),
    "max(x, 2*y) + min(x, 7)": ([1.0, 3.0], 5.0**0.5),
    "max(x, y, 1)": ([-1.0, -1.5], 2.0),
    "log(x)": ([2.0], 2.0),
    "log(x) + y": ([-1.0, 0.0], -1.0),
    "sqrt(x) if x > 0 else y": ([-2.0, 1.0], 2.0),
    "atan2(y, x)": ([-1.0, 0.5], 0.5),
    "1/(x*y)": ([0.1, 3.0], 0.1),
    "asin(x)/tan(y)": ([0.5, 1.0], 0.5),
    "abs(sin(x*y))": ([1.0, 1.0], 1.0),
    "x**y + sinh(x)": ([2.0, 3.0], 2.0),
    "sign(x**3 + 0.001)*cosh(y)": ([1.0, 3.0], 1.1),
    "tanh(x)*exp(y) + cos(x)": ([1.0, 3.0], math.inf),
}


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_have_a_margin(text: str):
    """It is a lower bound of the distance, and exact to a factor of ten."""
    loss = Expression(text)
    point, distance = FORMULAS[text]
    x = torch.tensor(point, dtype=torch.float64)
    found = float(loss.domain.margin(x))
    assert found == distance or 0.1 < found / distance <= 1.0 + EXACT
    rows = x.expand(3, 2, -1)
    assert loss.domain.margin(rows).shape == (3, 2)


def test_a_piece_that_does_not_hold_spoils_no_gradient():
    x = torch.tensor([[-1.0, 2.0], [4.0, 2.0]], dtype=torch.float64, requires_grad=True)
    loss = Expression("sqrt(x) if x > 0 else y")
    (g,) = torch.autograd.grad(loss(x).sum(), x, create_graph=True)
    assert g.tolist() == [[0.0, 1.0], [0.25, 0.0]]
    (Hg,) = torch.autograd.grad(0.5 * g.square().sum(), x)
    assert Hg.tolist() == [[0.0, 0.0], [-1.0 / 128.0, 0.0]]
    rows = torch.func.vmap(torch.func.grad(loss))(x.detach())
    assert rows.tolist() == g.tolist()

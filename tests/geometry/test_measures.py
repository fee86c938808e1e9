"""Compare corridor measures with closed forms, invariances and real steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.geometry import oracle
from torch import Tensor, nn

import corridor
from corridor.geometry import Measures, measure, measure_dataset

Loss = Callable[[Tensor], Tensor]
SAME = oracle.rounding(1e4)
ROUGH = oracle.rounding(1e6)  # for differences of large numbers
INVARIANT = ("rho", "rho_parallel", "rho_perp", "cosine", "degree")


def at(loss: Loss, x: Tensor, **options) -> Measures:
    p = nn.Parameter(x.double().clone())
    return measure(lambda: loss(p), [p], **options)


def close(found: Tensor, expected: float, tolerance: float = SAME) -> bool:
    return float(found) == pytest.approx(expected, rel=tolerance, abs=tolerance)


def points(n: int, count: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return list(torch.randn(count, n, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("n", [2, 5, 50])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_cone_is_a_corridor(n: int, sign: int):
    for x in points(n):
        found = at(lambda p: sign * p.norm(), x, f_star=-100.0, step=0.01)
        assert float(found.hg_norm) < SAME
        assert close(found.grad_norm, 1.0)
        assert close(found.degree, 1.0, ROUGH)
        assert float(found.rho) < ROUGH
        assert float(found.curvature) < SAME
        assert found.secant is not None
        assert close(found.secant.decrease, 1.0)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("n", [1, 4])
def test_powers_of_the_norm(p: float, n: int):
    for x in points(n):
        found = at(lambda v: v.norm() ** p, x, step=lambda m: m.clr)
        assert close(found.rho, (p - 1) / (2 * p))
        assert close(found.rho_parallel, (p - 1) / (2 * p))
        assert close(found.degree, p, ROUGH)
        assert close(found.clr, float(x.norm() ** (2 - p)) / p**2)
        assert float(found.rho_perp) < ROUGH
        assert found.secant is not None
        assert close(found.secant.loss_ratio, ((p - 1) / p) ** p, ROUGH)


def test_half_the_square_is_a_weak_corridor():
    for x in points(6):
        found = at(lambda v: 0.5 * v.square().sum(), x)
        assert close(found.rho, 0.25)
        assert close(found.rho_parallel, 0.25)
        assert close(found.cosine, 1.0)
        assert float(found.curvature) < SAME  # straight lines
        assert close(found.sharpness_along_grad, 1.0)
        assert close(found.dal, 2.0)
        assert close(found.horizon, 1.0)


def test_the_exponential():
    found = at(lambda v: torch.exp(-v).sum(), torch.tensor([1.3]))
    assert close(found.rho_parallel, 0.5)
    assert float(found.degree) > 1 / SAME or float(found.degree) < -1 / SAME  # 1 / 0


@pytest.mark.parametrize("z", [-5.0, -1.0, 0.0, 2.0, 6.0])
def test_the_logistic_loss(z: float):
    found = at(lambda v: torch.log1p(torch.exp(-v)).sum(), torch.tensor([z]))
    u = math.exp(-z)
    assert close(2 * found.rho, math.log1p(u) / u)


def quadratic(condition: float, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    rotation = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    scales = torch.logspace(0, math.log10(condition), n, dtype=torch.float64)
    return rotation @ torch.diag(scales) @ rotation.T


@pytest.mark.parametrize("condition", [1.0, 3.0, 13.0, 50.0, 1e4])
def test_quadratics_lie_between_a_quarter_and_kantorovichs_bound(condition: float):
    h, near = quadratic(condition, 5), oracle.rounding(1e6 * condition)
    for x in points(5, 20):
        found = at(lambda v: 0.5 * v @ h @ v, x, step=lambda m: m.clr)
        assert found.secant is not None
        ratio = float(found.rho_parallel)
        assert 0.25 - near <= ratio <= (condition + 1) ** 2 / (16 * condition) + near
        assert close(found.secant.loss_ratio, ratio, near)  # the prediction is exact
        assert close(found.next_loss_ratio(0.3), float(_after(found, h, x, 0.3)), near)
        g = h @ x
        assert close(found.rho, float(0.25 * (x @ g) * (h @ g).norm() / g.norm() ** 3), near)
        following = at(lambda v: 0.5 * v @ h @ v, x - found.clr * g)
        growth = ratio / (1 - 4 * ratio + 4 * float(found.rho) ** 2)
        assert close(following.clr / found.clr, growth, near)


def _after(found: Measures, h: Tensor, x: Tensor, step: float) -> Tensor:
    moved = x - step * (h @ x)
    return 0.5 * moved @ h @ moved / found.loss


def test_a_kantorovich_vector_attains_the_bound():
    condition = 9.0
    scales = torch.tensor([1.0, condition], dtype=torch.float64)
    x = torch.stack([torch.tensor(1.0), torch.tensor(1.0)]).double() / scales  # equal |g_i|
    found = at(lambda v: 0.5 * (scales * v * v).sum(), x)
    assert close(found.rho_parallel, (condition + 1) ** 2 / (16 * condition))


def bumpy(v: Tensor) -> Tensor:
    return 2.0 + torch.sin(v).sum() + 0.3 * (v[0] * v[1]) ** 2 + torch.exp(0.5 * v[2])


@settings(max_examples=40, deadline=None)
@given(
    a=st.floats(1e-3, 1e3),
    s=st.floats(1e-2, 1e2),
    q=st.sampled_from([1.0, 2.0, 0.5]),
    seed=st.integers(0, 100),
)
def test_invariances(a: float, s: float, q: float, seed: int):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    plain = at(bumpy, x)
    near = oracle.rounding(1e10)  # scales are up to 1e7, and rho_perp may be a small difference
    # The loss a E seen from y, where x = s Q y.
    y = rotation.T @ x / s
    seen = at(lambda v: a * bumpy(s * (rotation @ v)), y)
    for name in INVARIANT:
        assert close(getattr(seen, name), float(getattr(plain, name)), near), name
    t = float(plain.clr)
    assert close(seen.drift(t / (a * s * s)), float(plain.drift(t)), near)
    assert close(seen.curvature, float(plain.curvature) * s, near)
    assert close(seen.sharpness_along_grad / (a * s * s), float(plain.sharpness_along_grad), near)
    for name in ("clr", "dal", "horizon"):
        assert float(getattr(seen, name)) * a * s * s == pytest.approx(
            float(getattr(plain, name)), rel=near
        )
    power = at(lambda v: bumpy(v) ** q, x)
    assert float(power.degree) == pytest.approx(q * float(plain.degree), rel=near)


def test_identities():
    for x in points(3, 30):
        found = at(bumpy, x)
        parts = found.rho_parallel**2 + found.rho_perp**2
        assert close(found.rho**2, float(parts))
        assert close(found.clr / found.dal, float(found.rho))
        assert close(found.drift(found.clr), float(found.rho))
        assert abs(float(found.cosine)) <= 1 + SAME


def test_curvature_is_that_of_the_flow_line_and_the_drift_that_of_a_step():
    x, h = points(3, 1)[0], 1e-3
    found = at(bumpy, x)
    line = [x]
    for _ in range(2):  # gradient flow by Runge-Kutta
        line.append(_flow(line[-1], h))
    velocity, turn = (line[2] - line[0]) / (2 * h), (line[2] - 2 * line[1] + line[0]) / h**2
    middle = at(bumpy, line[1])
    normal = turn - (turn @ velocity) / (velocity @ velocity) * velocity
    assert close(middle.curvature, float(normal.norm() / velocity.square().sum()), 1e-4)
    step = h * float(found.grad_norm)
    distance = float((line[1] - (x - h * _gradient(x))).norm())
    assert distance / step == pytest.approx(float(found.drift(h)), rel=1e-2)


def _gradient(x: Tensor) -> Tensor:
    p = x.clone().requires_grad_()
    return torch.autograd.grad(bumpy(p), p)[0]


def _flow(x: Tensor, time: float, parts: int = 4) -> Tensor:
    dt = time / parts
    for _ in range(parts):
        k1 = _gradient(x)
        k2 = _gradient(x - dt / 2 * k1)
        k3 = _gradient(x - dt / 2 * k2)
        k4 = _gradient(x - dt * k3)
        x = x - dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def test_the_secant_is_the_mean_of_hg_over_the_step_and_sees_kinks():
    h = quadratic(7.0, 4)
    x = points(4, 1)[0]
    found = at(lambda v: 0.5 * v @ h @ v, x, step=0.37)
    assert found.secant is not None
    for name in ("hg_norm", "ghg", "rho", "rho_parallel", "curvature"):  # H is constant
        assert close(getattr(found.secant, name), float(getattr(found, name)), ROUGH)
    assert close(found.secant.smoothness, 1.0, ROUGH)
    kink = at(lambda v: v.abs().sum(), torch.tensor([0.3, 2.0], dtype=torch.float64), step=1.0)
    assert kink.secant is not None
    assert float(kink.rho) == 0.0  # pointwise a corridor
    assert float(kink.secant.hg_norm) == 2.0  # the step crosses the kink of the first: 1 -> -1
    assert float(kink.secant.smoothness) == 0.0
    assert close(kink.secant.gradient_change, math.sqrt(2.0))
    assert close(kink.secant.decrease, (2.3 - 1.7) / 2.0, ROUGH)


def test_a_critical_point_is_undefined_and_takes_no_step():
    found = at(lambda v: 0.5 * v.square().sum() + 1.0, torch.zeros(2))
    assert all(math.isnan(float(getattr(found, name))) for name in INVARIANT)
    assert float(found.clr) == 0.0
    assert float(found.loss) == 1.0


def test_a_loss_below_its_bound_counts_as_reached():
    found = at(lambda v: 0.5 * v.square().sum(), torch.ones(2), f_star=3.0)
    assert float(found.clr) == 0.0
    assert float(found.rho) == 0.0


def test_tiny_gradients_do_not_vanish():
    x = nn.Parameter(torch.full((4,), 1e-12))  # ||g||^4 underflows float32
    found = measure(lambda: 0.5 * x.square().sum(), [x])
    assert float(found.rho) == pytest.approx(0.25, rel=oracle.rounding(1e3, torch.float32))


def test_as_dict_holds_every_number():
    found = at(bumpy, points(3, 1)[0], step=0.1)
    values = found.as_dict()
    assert found.secant is not None
    assert values["rho"] == float(found.rho)
    assert values["secant_decrease"] == float(found.secant.decrease)
    assert "secant_loss" not in values  # it is the loss


def test_options_out_of_range_are_one_clear_line():
    with pytest.raises(ValueError, match="f_star must be finite"):
        at(bumpy, torch.ones(3), f_star=float("-inf"))
    for step in (0.0, -1.0, float("nan"), lambda m: m.loss * 0):
        with pytest.raises(ValueError, match="step must be positive"):
            at(bumpy, torch.ones(3), step=step)


def test_measure_is_at_the_top():
    assert corridor.measure is measure


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(exponent=st.floats(-12.0, 12.0))
@settings(deadline=None, max_examples=25)
def test_invariant_numbers_do_not_change_with_the_unit_of_the_loss(
    dtype: torch.dtype, exponent: float
):
    x = torch.nn.Parameter(torch.tensor([1.5, -0.7, 0.4], dtype=dtype))
    factor = 10.0**exponent

    def loss(scale: float) -> torch.Tensor:
        return scale * (x.cosh().sum() + 0.3 * (x[0] * x[1]).square())

    expected, found = (measure(lambda s=s: loss(s), [x], step=0.1 / s) for s in (1.0, factor))
    assert found.engine.name == "double_backward"
    tolerance = oracle.rounding(1e3, dtype)
    for name in ("rho", "rho_parallel", "cosine", "degree", "curvature"):
        a, b = (float(getattr(m, name)) for m in (found, expected))
        assert a == pytest.approx(b, rel=tolerance), name
    assert found.secant is not None
    assert expected.secant is not None
    assert float(found.secant.rho) == pytest.approx(float(expected.secant.rho), rel=tolerance)
    assert float(found.dal) * factor == pytest.approx(float(expected.dal), rel=tolerance)


@pytest.mark.parametrize("scale", [1e-18, 1e-12, 1e10, 1e15])
def test_every_engine_and_data_sets_take_small_and_large_float32_losses(scale: float):
    model = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0]]))
    rows = [torch.eye(2), torch.eye(2)]

    def loss(model: Any, x: torch.Tensor) -> torch.Tensor:
        return scale * 0.5 * model(x).square().sum()

    for engine in ("double_backward", "forward_over_reverse", "central_differences"):
        found = measure(lambda: loss(model, rows[0]), model, engine=engine, check=True)
        assert float(found.rho) == pytest.approx(0.25, rel=oracle.differencing(torch.float32))
        assert float(found.cosine) == pytest.approx(1.0, rel=oracle.differencing(torch.float32))
    whole = measure_dataset(model, None, rows, batch_loss=loss)
    assert float(whole.rho) == pytest.approx(0.25, rel=oracle.rounding(100, torch.float32))
    sharp = float(whole.batch_sharpness)
    assert sharp == pytest.approx(scale, rel=oracle.rounding(100, torch.float32))

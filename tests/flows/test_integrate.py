"""Test the adaptive flow: closed forms, kinks and exits, points at given times, bad input."""

from __future__ import annotations

import math

import pytest
import torch

from corridor.flows import fixed_step_flow, gradient_flow, modified_flow, network_loss
from corridor.flows.integrate import METHODS
from corridor.surfaces import (
    Cone,
    DevelopableHelicoid,
    DistanceTo,
    FixedStep,
    Glued,
    Hinge,
    Linear,
    LogDistance,
    PNorm,
    PowerNorm,
    Quadratic,
    Saddle,
    Sphere,
    surface,
)

START = torch.tensor([3.0, 4.0], dtype=torch.float64)


@pytest.mark.parametrize("time", [0.1, 1.0, 5.0])
def test_the_quadratic_flow_is_exponential(time: float):
    """Example 2.7."""
    path = gradient_flow(Quadratic(), START, time)
    assert float((path.end - START * math.exp(-time)).norm()) < 1e-8
    assert path.stopped == "time"
    assert torch.equal(path.points[0], START)


def test_closed_forms_that_are_not_exponential():
    saddle = gradient_flow(Saddle(), START, 1.0)
    c, s = math.cosh(1.0), math.sinh(1.0)
    expected = torch.tensor([3 * c - 4 * s, 4 * c - 3 * s], dtype=torch.float64)
    torch.testing.assert_close(saddle.end, expected, rtol=0, atol=1e-8)
    # r' = -3 r^2
    cubic = gradient_flow(PowerNorm(3.0), START, 1.0)
    assert float(cubic.end.norm()) == pytest.approx(1.0 / (1.0 / 5.0 + 3.0), abs=1e-8)


def test_the_time_of_a_kink_is_found_to_rounding():
    for loss in (Cone(), lambda x: x.norm()):
        path = gradient_flow(loss, START, 10.0)
        assert path.stopped == "minimum"
        assert path.exit_time == pytest.approx(5.0, abs=1e-12)
        assert float(path.end.norm()) < 1e-12
    ring = gradient_flow(DistanceTo(Sphere(radius=2.0)), START, 10.0)
    assert (ring.stopped, float(ring.times[-1])) == ("minimum", pytest.approx(3.0, abs=1e-12))


def test_a_tangent_kink_is_reached_in_few_steps():
    path = gradient_flow(DevelopableHelicoid(1.0), torch.tensor([2.0, 2.0]).double(), 10.0)
    assert float(path.times[-1]) == pytest.approx(math.sqrt(7.0), abs=1e-7)
    assert path.gradients < 1000


def test_a_plane_and_a_crease_end_the_flow_by_name():
    slope = gradient_flow(Hinge([1.0, -2.0], 1.0), torch.tensor([3.0, 1.0]).double(), 10.0)
    assert (slope.stopped, float(slope.losses[-1])) == ("minimum", pytest.approx(0.0, abs=1e-12))
    crease = gradient_flow(PNorm(1.0), torch.tensor([3.0, 1.0]).double(), 10.0)
    assert (crease.stopped, float(crease.times[-1])) == ("kink", pytest.approx(1.0, abs=1e-9))


@pytest.mark.parametrize("known", [True, False])
def test_a_seam_is_crossed_and_the_flow_goes_on(known: bool):
    """The flow has speed 1 before the seam at time 1, and speed 2 after it."""
    roof = Glued([Linear([1.0, 0.0]), Linear([2.0, 0.0])])  # the steeper one below for x < 0
    loss = roof if known else lambda x: roof(x)
    path = gradient_flow(loss, torch.tensor([1.0, 0.5]).double(), 3.0)
    assert [event.kind for event in path.events] == ["kink"]
    assert path.exit_time == pytest.approx(1.0, abs=1e-8)
    torch.testing.assert_close(
        path.end, torch.tensor([-4.0, 0.5]).double(), rtol=0, atol=1e-7 if known else 1e-6
    )


def test_leaving_the_domain_has_a_time():
    loss = FixedStep()
    start = loss.at_time(torch.tensor([0.2], dtype=torch.float64))
    path = gradient_flow(loss, start, 5.0)
    assert path.stopped == "left the domain"
    assert float(path.times[-1]) == pytest.approx(loss.t_end - 0.2, abs=1e-6)
    blow_up = gradient_flow(lambda x: x.log().sum(), torch.ones(1).double(), 2.0)
    assert blow_up.stopped == "left the domain"
    assert float(blow_up.times[-1]) == pytest.approx(0.5, abs=1e-6)


def test_a_cut_where_the_loss_jumps_ends_the_flow():
    """The gradients on both sides of the cut are equal, but the losses differ."""
    start = torch.tensor([-1.53, -2.1], dtype=torch.float64)
    path = gradient_flow(DevelopableHelicoid(0.6), start, 2.5)
    assert path.stopped == "left the domain"
    assert float(path.end[1].abs()) < 1e-9


def test_paths_have_points_at_given_times_and_between():
    wanted = [0.0, 0.25, 1.0]
    path = gradient_flow(Quadratic(), START, 1.0, at=wanted)
    assert path.times.tolist() == wanted
    for time, point in zip(wanted, path.points, strict=True):
        assert float((point - START * math.exp(-time)).norm()) < 1e-8
    dense = gradient_flow(Quadratic(), START, 1.0, dense=True)
    for time in (0.0, 0.123, 0.77, 1.0):
        assert float((dense.at(time) - START * math.exp(-time)).norm()) < 1e-8


def test_a_list_of_tensors_flows_as_its_vector_does():
    path = gradient_flow(lambda p: Quadratic()(torch.cat(p)), [START[:1], START[1:]], 1.0)
    whole = gradient_flow(Quadratic(), START, 1.0)
    torch.testing.assert_close(path.flat()[-1], whole.end, rtol=0, atol=0)
    assert [t.shape for t in path.end] == [(1,), (1,)]


def test_float32_starts_stay_float32():
    path = gradient_flow(Quadratic(), START.float(), 1.0, tolerance=1e-6)
    assert path.end.dtype == torch.float32
    assert float((path.end - START.float() / math.e).norm()) < 1e-5


def test_gradients_equals_the_number_of_calls():
    calls = 0

    def loss(x):
        nonlocal calls
        calls += x.requires_grad
        return LogDistance()(x)

    path = gradient_flow(loss, START, 1.0)
    assert path.gradients == calls - 1  # the first call tests the start
    assert len(path.step_sizes) == len(path) - 1
    assert float(path.step_sizes.sum()) == pytest.approx(1.0)


def test_a_spent_budget_stops_the_flow():
    seen = []
    path = gradient_flow(
        Saddle(), START, 100.0, max_gradients=60, progress=lambda *now: seen.append(now)
    )
    assert path.stopped == "budget"
    assert path.gradients <= 60
    assert [time for time, _, _ in seen] == path.times[1:].tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gradient_flow(Cone(), torch.zeros(2)), "off its kinks, got margin 0; choose"),
        (lambda: gradient_flow(FixedStep(), torch.tensor([9.0]).double()), "got margin -"),
        (lambda: gradient_flow(lambda x: x.log().sum(), -START), "must be finite at start"),
        (lambda: gradient_flow(lambda x: x.square().sum().sqrt(), 0 * START), "off kinks"),
        (lambda: gradient_flow(Quadratic(), START, math.nan), "time must be a finite number"),
        (lambda: gradient_flow(Quadratic(), START, 1.0, tolerance=0.0), "tolerance must be in"),
        (lambda: gradient_flow(lambda x: x, START), "loss must be one real number"),
        (lambda: gradient_flow(Linear([1.0]), START), "must have dimension 1, got 2"),
        (lambda: gradient_flow(Cone(), torch.tensor([3, 4])), "one floating dtype and device"),
        (lambda: gradient_flow(Cone(), []), "non-empty list of tensors"),
        (lambda: gradient_flow(Cone(), START * math.inf), "start must be finite"),
        (
            lambda: gradient_flow(Cone(), START, 9.0, at=[1.0, 7.0]),
            "flow does at time 5",
        ),
        (lambda: gradient_flow(Cone(), START, 1.0, at=[2.0]), "times between 0 and 1 in order"),
        (
            lambda: gradient_flow(Cone(), START, 9.0).at(7.0),
            r"ended there \(minimum\)",
        ),
        (lambda: gradient_flow(Cone(), START, 1.0).at(0.3), "dense=True"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


CURVED = torch.tensor([1.0, 25.0], dtype=torch.float64)


@pytest.mark.parametrize("tolerance", [1e-5, 1e-9, 1e-12])
def test_points_between_the_steps_keep_the_tolerance(tolerance: float):
    def loss(x):
        return 0.5 * (CURVED * x.square()).sum()

    times = torch.linspace(0.0, 2.0, 81, dtype=torch.float64)
    exact = START * torch.exp(-times[:, None] * CURVED)
    for path in (
        gradient_flow(loss, START, 2.0, tolerance, at=times),
        gradient_flow(loss, START, 2.0, tolerance, dense=True),
    ):
        points = path.points if len(path) == len(times) else path.at(times)
        assert float((points - exact).abs().max()) < tolerance * float(START.norm())
    # Reading costs less than ending a step at each time.
    assert path.gradients < 15 * len(times)


def test_stiff_flows_have_a_method():
    """The curvatures 1 and 1e6: stability limits an explicit step to 6e-6."""
    stiff = torch.tensor([1.0, 1e6], dtype=torch.float64)

    def loss(x):
        return 0.5 * (stiff * x.square()).sum()

    path = gradient_flow(loss, START, 1.0, method="implicit", dense=True)
    assert path.stopped == "time"
    assert path.gradients < 3000
    for time in (1e-7, 1e-3, 0.4, 1.0):
        assert float((path.at(time) - START * torch.exp(-time * stiff)).norm()) < 1e-8
    assert gradient_flow(loss, START.float(), 1.0, 1e-5, method="implicit").stopped == "time"
    with pytest.warns(UserWarning, match="curvature 1e\\+06 .* use .*implicit"):
        spent = gradient_flow(loss, START, 1.0, max_gradients=500)
    assert (spent.stopped, spent.gradients) == ("budget", 500)


@pytest.mark.parametrize("loss", [Cone(), lambda x: x.norm(), PNorm(1.0), Saddle()])
def test_the_implicit_flow_is_the_explicit_one(loss):
    explicit, implicit = (gradient_flow(loss, START, 9.0, 1e-8, method=m) for m in METHODS)
    torch.testing.assert_close(explicit.end, implicit.end, rtol=1e-6, atol=1e-6)


def bump(height: float, half: float = 0.5, center: float = 3.0):
    return lambda x: (x + height * (half - (x - center).abs()).clamp(min=0)).sum()


@pytest.mark.parametrize(
    ("loss", "start", "wall"),
    [
        (bump(4.0), 10.0, 3.5),
        (bump(4.0), 1000.0, 3.5),
        (bump(4.0, half=0.005), 10.0, 3.005),
        (lambda x: (x + 4 * torch.relu(0.5 - (x - 3).square())).sum(), 10.0, 3 + 0.5**0.5),
        (lambda x: torch.where((x > 3) & (x < 3.2), 3.2 - x, x).sum(), 10.0, 3.2),
        (lambda x: torch.maximum(x, 7 - x).sum(), 10.0, 3.5),
        (lambda x: x.sum() if x > 3.5 or x < 3 else 7.0 - x.sum(), 10.0, 3.5),
        (lambda x: torch.cat([x, 7 - x]).max(), 10.0, 3.5),
    ],
)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
def test_no_step_leaps_over_a_wall(loss, start: float, wall: float, tolerance: float):
    """Both ends of a long step see the same slope. The wall between them has another one."""
    path = gradient_flow(loss, torch.tensor([start]).double(), 2 * start + 5, tolerance)
    assert float(path.end) == pytest.approx(wall, abs=10 * tolerance * start)
    assert path.stopped == "minimum"
    assert path.gradients < 1000


def test_a_low_wall_is_crossed_in_its_own_time():
    """Speed 1 to 3.5, 1/2 to 3, 3/2 to 2.5 and 1 after it."""
    path = gradient_flow(bump(0.5), torch.tensor([10.0]).double(), 20.0)
    assert [event.time for event in path.events] == pytest.approx([6.5, 7.5, 7.5 + 1 / 3], abs=1e-7)
    assert float(path.end) == pytest.approx(2.5 - (12.5 - 1 / 3), abs=1e-7)


def test_times_are_numbers_of_any_kind_and_sign():
    for time in (1, torch.tensor(1.0), torch.tensor([1.0]), torch.ones(()).double().numpy()):
        assert float((gradient_flow(Quadratic(), START, time).end - START / math.e).norm()) < 1e-8
    still = gradient_flow(Quadratic(), START, 0.0, at=[0.0], dense=True)
    assert (len(still), still.stopped, still.gradients) == (1, "time", 0)
    assert torch.equal(still.at(0.0), START)
    back = gradient_flow(Quadratic(), START, -1.0, at=[0.0, -0.25, -1.0], dense=True)
    assert back.times.tolist() == [0.0, -0.25, -1.0]
    for time in (-0.25, -0.7, -1.0):
        assert float((back.at(time) - START * math.exp(-time)).norm()) < 1e-7
    assert float(back.step_sizes.sum()) == pytest.approx(-1.0)
    uphill = gradient_flow(lambda x: -x.abs().sum(), START, -9.0)
    assert (uphill.stopped, uphill.exit_time) == ("kink", pytest.approx(-3.0, abs=1e-7))
    for time in (0.0, -1.0):
        assert float(fixed_step_flow(Quadratic(), START, time).times[-1]) == pytest.approx(time)


def test_a_path_returns_points_at_several_times():
    path = gradient_flow(Quadratic(), START, 1.0, dense=True)
    expected = torch.stack([path.at(0.1), path.at(0.2)])
    for times in ([0.1, 0.2], (0.1, 0.2), torch.tensor([0.1, 0.2], dtype=torch.float64)):
        assert torch.equal(path.at(times), expected)
    lists = gradient_flow(lambda p: p[0].square().sum(), [START], 1.0, dense=True)
    assert [len(point) for point in lists.at([0.1, 0.2])] == [1, 1]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_flows_work_where_no_graph_is_recorded(context):
    with context():
        start = START.clone()
        found = [
            gradient_flow(Quadratic(), start, 0.5).end,
            gradient_flow(Quadratic(), start, 0.5, method="implicit").end,
            fixed_step_flow(Quadratic(), start, 0.5).end,
            modified_flow(Quadratic(), start, 0.5, kind="igr", step_size=1e-9).end,
            modified_flow(Quadratic(), start, 0.5, kind="principal", step_size=1e-9).end,
        ]
        net = torch.nn.Linear(2, 1)
        loss, begin = network_loss(
            net, torch.nn.functional.mse_loss, start[None].float(), start[None, :1]
        )
        assert gradient_flow(loss, begin, 0.1, 1e-5).stopped == "time"
    for end in found:
        assert float((end - START * math.exp(-0.5)).norm()) < 1e-3


def test_another_default_dtype_changes_no_flow():
    paths = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            for start in (START, START.float()):
                paths.append(gradient_flow(bump(4.0), start, 0.4, 1e-6, at=[0.3]))
                paths.append(gradient_flow(Quadratic(), start, 1.0, 1e-6, method="implicit"))
                paths.append(modified_flow(Cone(), start, 0.1, 1e-6, kind="principal"))
        finally:
            torch.set_default_dtype(torch.float32)
    for one, other in zip(paths[:6], paths[6:], strict=True):
        assert torch.equal(one.end, other.end)


@pytest.mark.parametrize("steepness", [1.5, 10.0, 100.0, 1e4])
def test_a_steep_kink_of_a_plain_loss_ends_the_flow(steepness: float):
    def slope(x):
        return -x[0] + steepness * (x[0] - 1.0).relu()

    path = gradient_flow(slope, torch.zeros(1, dtype=torch.float64), 10.0, max_gradients=2000)
    assert (path.stopped, len(path.events)) == ("minimum", 1)
    assert float(path.times[-1]) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("start", [-1.0, 1.0])
def test_a_flow_that_slows_down_stops_at_a_steep_kink(start: float):
    def lasso(x):
        return 0.5 * (x[0] - 0.95) ** 2 + x[0].abs()

    x = torch.tensor([start], dtype=torch.float64)
    path = gradient_flow(lasso, x, 10.0, max_gradients=2000)
    right = math.log(2.95 / 1.95 if start < 0.0 else 1.05 / 0.05)
    assert path.stopped == "minimum"
    assert float(path.times[-1]) == pytest.approx(right, abs=1e-6)


LARGEST = {
    "max": lambda rows: rows.max(1).values,
    "amax": lambda rows: rows.amax(1),
    "columns": lambda rows: rows.mT.amax(dim=(0,)),
    "norm": lambda rows: (rows - 0.2 + 50).norm(math.inf, dim=1) - 49.8,
    "min": lambda rows: -(-rows).min(dim=-1).values,
    "amin": lambda rows: -(-rows)[None].amin((0, 2)),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_of_each_row_is_a_switch(name: str):
    """A thin wall in one row is not leapt over, although another row holds a larger number."""
    largest = LARGEST[name]

    def loss(x):
        others = torch.stack([0 * x[0] + 7.0, 0 * x[0] + 9.0])
        wall = -largest(torch.stack([10.0 * torch.stack([4.99 - x[0], x[0] - 5.01]), others]))[0]
        return largest(torch.stack([torch.stack([wall, 0 * wall]), others]))[0] - x[0]

    path = gradient_flow(loss, torch.zeros(1, dtype=torch.float64), 10.0)
    assert float(path.end) == pytest.approx(4.99, abs=1e-9)


def test_the_middle_of_a_box_stops_a_path():
    x = torch.tensor([0.3, 0.1], dtype=torch.float64)
    path = gradient_flow(surface("box"), x, 1.0, max_gradients=500)
    assert (path.stopped, [event.kind for event in path.events]) == ("minimum", ["kink"])
    assert path.exit_time == pytest.approx(0.1, abs=1e-9)


@pytest.mark.parametrize(
    ("start", "time"),
    [((3.0, 4.0), 7.0), ((3.0, 4.0), 6.5), ((1.0,), 2.0), ((0.9,), 2.0), ((0.3, 0.4), 1.0)],
)
def test_the_estimate_of_fixed_steps_covers_a_kink_that_both_paths_share(start, time: float):
    x = torch.tensor(start, dtype=torch.float64)
    path = fixed_step_flow(lambda x: x.norm(), x, time)
    assert path.error is not None
    assert float(path.end.norm()) <= float(path.error[-1])

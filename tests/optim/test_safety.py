"""Bad input: a skipped step or one clear line, never a silent NaN or a step uphill."""

from __future__ import annotations

import math

import pytest
import torch
from tests.optim.conftest import step_sizes

from corridor import CLR
from corridor.optim import SPSMax

BAD = [math.nan, math.inf, -math.inf]


def frozen(opt: CLR, p: torch.nn.Parameter) -> tuple:
    groups = opt.state_dict()["param_groups"][0]
    free = {"skipped", "effective_lr", "grad_norm"}
    kept = {k: v for k, v in groups.items() if k not in free}
    state = {k: v.clone() for k, v in opt.state[p].items()}
    return p.detach().clone(), kept, state


def check_frozen(before: tuple, after: tuple) -> None:
    assert torch.equal(before[0], after[0])
    assert before[1].keys() == after[1].keys()
    assert all(before[1][k] == after[1][k] for k in before[1])
    assert all(torch.equal(before[2][k], after[2][k]) for k in before[2])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_finite_is_skipped_and_counted(parameter, momentum, dtype, where, bad):
    p = parameter([1.0, 2.0, 3.0], [0.5, -0.5, 1.0], dtype)
    opt = CLR([p], momentum=momentum, weight_decay=0.1)
    opt.step(loss=0.5)
    before = frozen(opt, p)
    good = p.grad.clone()
    if where == "gradient":
        p.grad[1] = bad
    opt.step(loss=bad if where == "loss" else 0.5)
    check_frozen(before, frozen(opt, p))
    assert step_sizes(opt) == [0.0]
    assert int(opt.param_groups[0]["skipped"]) == 1
    p.grad = good
    opt.step(loss=0.5)
    assert step_sizes(opt)[0] > 0.0
    assert p.isfinite().all()
    assert int(opt.param_groups[0]["skipped"]) == 1


def test_a_nan_in_a_large_tensor_touches_nothing(parameter):
    p = parameter(torch.randn(200_000), torch.randn(200_000), torch.float32)
    opt = CLR([p], momentum=0.9)
    opt.step(loss=1.0)
    before = frozen(opt, p)
    p.grad[-1] = math.nan
    opt.step(loss=1.0)
    check_frozen(before, frozen(opt, p))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    ("loss", "grad"), [(1.0, 0.0), (0.0, 0.0), (-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0)]
)
def test_nothing_to_gain_is_no_step_and_no_skip(parameter, momentum, loss, grad):
    p = parameter([1.0, 2.0], [grad, grad])
    opt = CLR([p], momentum=momentum)
    opt.step(loss=loss)
    assert torch.equal(p.detach(), torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert step_sizes(opt) == [0.0]
    assert int(opt.param_groups[0]["skipped"]) == 0


def test_a_loss_below_f_star_is_no_step(parameter):
    p = parameter([1.0], [1.0])
    opt = CLR([p], f_star=0.5)
    opt.step(loss=0.4)
    assert float(p.detach()) == 1.0


def test_parameters_without_gradient_are_left_alone(parameter):
    p, q = parameter([1.0], [2.0]), parameter([5.0])
    opt = CLR([p, q], max_lr=math.inf, momentum=0.9)
    opt.step(loss=1.0)
    assert float(q.detach()) == 5.0
    moved = float(p.detach())
    assert moved == pytest.approx(0.5, rel=1e-12)
    p.grad = None
    opt.step(loss=1.0)  # no gradient anywhere: no step, as with torch's own optimizers
    assert float(p.detach()) == moved


def test_sparse_gradients_are_refused_in_one_line():
    table = torch.nn.Embedding(10, 3, sparse=True)
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match=r"gradients must be dense.*sparse=False"):
        CLR(table.parameters()).step(loss=1.0)


def test_a_tiny_gradient_never_makes_a_step_that_is_not_finite(parameter):
    p = parameter([1.0], [1e-22], torch.float32)
    opt = CLR([p], max_lr=math.inf)
    opt.step(loss=1.0)
    assert p.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_lr": 0.0}, "max_lr must be positive"),
        ({"max_lr": -1.0}, "max_lr must be positive"),
        ({"max_lr": math.nan}, "max_lr must be positive"),
        ({"f_star": math.inf}, "f_star must be a finite number"),
        ({"scale": 0.0}, "scale must be positive"),
        ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\)"),
        ({"momentum": -0.1}, r"momentum must be a number in \[0, 1\)"),
        ({"weight_decay": -1.0}, "weight_decay must be non-negative"),
        ({"max_lr": "0.1"}, "max_lr must be positive"),
        ({"max_lr": torch.tensor([0.1, 0.2])}, "max_lr must be positive"),
        ({"max_lr": torch.tensor([0.0])}, "max_lr must be positive"),
        ({"f_star": None}, "f_star must be a finite number"),
        ({"momentum": "a"}, "momentum must be a number"),
        ({"weight_decay": None}, "weight_decay must be non-negative"),
    ],
)
def test_options_out_of_range_are_refused(parameter, options, message):
    with pytest.raises(ValueError, match=message) as error:
        CLR([parameter([1.0])], **options)
    assert "\n" not in str(error.value)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        CLR([])


def test_groups_share_all_but_cap_and_decay(parameter):
    p, q = parameter([1.0], [1.0]), parameter([1.0], [1.0])
    groups = [{"params": [p], "max_lr": 0.1}, {"params": [q], "lr": 0.02, "weight_decay": 0.5}]
    opt = CLR(groups)
    assert not any("max_lr" in group for group in opt.param_groups)
    opt.step(loss=1.0)
    assert step_sizes(opt) == [0.1, 0.02]
    assert float(p.detach()) == pytest.approx(0.9)
    assert float(q.detach()) == pytest.approx(1.0 - 0.02 * 0.5 - 0.02)
    for key, value in {"f_star": 1.0, "scale": 2.0, "momentum": 0.5}.items():
        with pytest.raises(ValueError, match=f"{key} must be given by all parameter groups"):
            CLR([{"params": [p]}, {"params": [q], key: value}])
    with pytest.raises(ValueError, match="given once, got max_lr and lr"):
        CLR([{"params": [p], "lr": 1.0, "max_lr": 1.0}])


def test_a_cap_made_nan_by_a_scheduler_is_refused(parameter):
    p = parameter([1.0], [1.0])
    opt = CLR([p], max_lr=math.inf)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda k: 1.0 if k == 0 else 0.0)
    opt.step(loss=1.0)
    schedule.step()
    before = p.detach().clone()
    with pytest.raises(ValueError, match="finite max_lr to a scheduler"):
        opt.step(loss=1.0)
    assert torch.equal(p.detach(), before)
    opt.param_groups[0]["lr"] = torch.tensor(math.nan)
    with pytest.raises(ValueError, match="NaN"):
        opt.step(loss=1.0)


@pytest.mark.parametrize("tensor_cap", [False, True])
def test_a_scheduler_scales_the_cap(parameter, tensor_cap: bool):
    p = parameter([1.0], [1.0])
    opt = CLR([p], max_lr=torch.tensor(0.2) if tensor_cap else 0.2)
    schedule = torch.optim.lr_scheduler.StepLR(opt, step_size=1, gamma=0.5)
    seen = []
    for _ in range(4):
        opt.step(loss=5.0)
        seen += step_sizes(opt)
        schedule.step()
    assert seen == pytest.approx([0.2, 0.1, 0.05, 0.025])


def test_one_cycle_leaves_the_optimizer_working(parameter):
    p = parameter([1.0], [1.0])
    opt = CLR([p], momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.5, total_steps=10)
    for _ in range(9):
        opt.step(loss=0.5)
        assert 0.0 <= step_sizes(opt)[0] <= 0.5
        schedule.step()
    assert p.isfinite().all()


@pytest.mark.parametrize("key", ["f_star", "scale", "momentum"])
def test_options_spoilt_in_a_group_are_refused_at_the_step(parameter, key):
    p, q = parameter([1.0], [1.0]), parameter([1.0], [1.0])
    opt = CLR([{"params": [p]}, {"params": [q]}])
    opt.param_groups[1][key] = 0.5
    with pytest.raises(ValueError, match=f"{key} must be equal in all parameter groups"):
        opt.step(loss=1.0)
    opt.param_groups[0][key] = opt.param_groups[1][key] = math.nan
    with pytest.raises(ValueError, match=f"{key} must be"):
        opt.step(loss=1.0)
    assert float(p.detach()) == 1.0


def test_the_first_group_gives_the_shared_options(parameter):
    p, q = parameter([1.0], [1.0]), parameter([1.0], [1.0])
    opt = CLR([{"params": [p], "momentum": 0.9, "name": "a"}, {"params": [q], "momentum": 0.9}])
    opt.step(loss=1.0)
    again = CLR(opt.param_groups)
    assert again.param_groups[0]["name"] == "a"
    assert again.param_groups[1]["momentum"] == 0.9
    assert again.param_groups[0]["effective_lr"] is not opt.param_groups[0]["effective_lr"]
    assert "gradient_average" not in again.state[p]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_huge_scale_on_a_tiny_gradient_stays_finite(parameter, momentum):
    p = parameter([1.0, 0.0], [1e-22, 0.0], torch.float32)
    CLR([p], max_lr=math.inf, scale=2.0, momentum=momentum).step(loss=1.0)
    assert p.isfinite().all()


def test_a_negative_cap_is_no_step(parameter):
    p = parameter([1.0], [1.0])
    opt = CLR([p])
    opt.param_groups[0]["lr"] = -0.1
    opt.step(loss=1.0)
    assert float(p.detach()) == 1.0


@pytest.mark.parametrize("tensor_cap", [False, True])
@pytest.mark.parametrize("kind", [CLR, SPSMax])
def test_a_group_with_a_cap_of_zero_stands_still(parameter, kind, tensor_cap: bool):
    """Also where a heavy ball would coast, and the other groups go on."""
    p, q = parameter([1.0, 2.0], [1.0, 0.5]), parameter([1.0], [1.0])
    opt = kind([{"params": [p]}, {"params": [q], "lr": 0.0}], momentum=0.9, weight_decay=0.1)
    opt.step(loss=0.1)
    assert float(q.detach()) == 1.0
    opt.param_groups[0]["lr"] = torch.tensor([0.0]) if tensor_cap else 0.0
    opt.param_groups[1]["lr"] = torch.tensor([0.1]) if tensor_cap else 0.1
    before = p.detach().clone()
    opt.step(loss=0.1)
    assert torch.equal(p.detach(), before)
    assert float(q.detach()) < 1.0


def test_a_cap_may_be_a_tensor_of_one_element(parameter):
    """As in torch's own optimizers: the shape is kept, and a scheduler scales it."""
    p = parameter([1.0], [1.0])
    opt = SPSMax([p], max_lr=torch.tensor([0.5]))
    schedule = torch.optim.lr_scheduler.StepLR(opt, step_size=1, gamma=0.5)
    for expected in (0.5, 0.25):
        opt.step(loss=5.0)
        assert step_sizes(opt) == [expected]
        assert float(opt.step_size_at(torch.tensor(5.0), torch.tensor(1.0))) == expected
        schedule.step()


def test_momentum_may_be_switched_off_and_on(parameter):
    p = parameter([1.0, 2.0], [1.0, 0.5])
    opt = CLR([p], max_lr=math.inf, momentum=0.9)
    for beta in (0.9, 0.0, 0.9):
        opt.param_groups[0]["momentum"] = beta
        before = p.detach().clone()
        opt.step(loss=0.1)
        if beta == 0.0:  # plain CLR along g
            torch.testing.assert_close(before - p.detach(), 0.1 / 1.25 * p.grad)
            assert torch.equal(opt.state[p]["gradient_average"], p.grad)  # the past has weight 0


def test_a_heavy_ball_forgets_what_came_before_a_stretch_without_momentum(parameter):
    """After a plain step the velocity is that step, not the last one with momentum."""
    p = parameter([1.0, 2.0], [1.0, 0.5])
    opt = SPSMax([p], momentum=0.9)
    for beta in (0.9, 0.0, 0.9):
        opt.param_groups[0]["momentum"] = beta
        before = p.detach().clone()
        opt.step(loss=0.1)
        moved = p.detach() - before
        if beta == 0.0:
            torch.testing.assert_close(moved, -0.2 / 1.25 * p.grad)
    torch.testing.assert_close(opt.state[p]["velocity"], moved)
    torch.testing.assert_close(moved, -0.2 / 1.25 * p.grad)  # 0.9 and 0.1 of the same step


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_updates_are_rounded_once(parameter, dtype):
    p = parameter(torch.linspace(0.5, 1.5, 64), torch.full((64,), 0.3), dtype)
    exact = p.double() - 1e-2 * p.grad.double()
    CLR([p], max_lr=1e-2).step(loss=100.0)
    assert torch.equal(p.detach(), exact.to(dtype))


def test_alternating_gradients_resume_exactly(parameter):
    """Parameters that have a gradient now and then move alike after a resumption."""
    ends = []
    for interrupted in (False, True):
        p, q = parameter([1.0, 0.0]), parameter([2.0, 1.0])
        opt = CLR([p, q], max_lr=math.inf, momentum=0.5)
        for k in range(6):
            if k == 3 and interrupted:
                saved = opt.state_dict()
                opt = CLR([p, q])
                opt.load_state_dict(saved)
            here, other = (p, q) if k % 2 else (q, p)
            here.grad, other.grad = torch.tensor([1.0, k], dtype=torch.float64), None
            opt.step(loss=1.0)
        ends.append((p.detach(), q.detach()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_momentum_in_bfloat16_knows_how_far_it_really_moved(parameter):
    """Steps that rounding swallows do not count as progress, so they do not shrink."""
    p = parameter([256.0], [1.0], torch.bfloat16)
    opt = CLR([p], max_lr=1e-3, momentum=0.9)
    for _ in range(200):
        opt.step(loss=1.0)
    assert float(p.detach()) == 256.0
    assert step_sizes(opt)[0] == pytest.approx(1e-3)
    assert float(opt.param_groups[0]["average_shift"]) == pytest.approx(0.0, abs=1e-9)


def test_clipping_first_makes_the_step_longer_not_shorter(parameter):
    """Decided so, and documented: g is shortened by s, the loss is not, the step grows by 1/s."""
    moved = []
    for clip in (None, 1.0):
        p = parameter([3.0, 4.0], [3.0, 4.0])
        start = p.detach().clone()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([p], clip)
        opt = CLR([p], max_lr=math.inf)
        opt.step(loss=1.0)
        moved.append(float((p.detach() - start).norm()))
        assert moved[-1] == pytest.approx(1.0 / (5.0 if clip is None else clip), rel=1e-6)
    assert moved[1] == pytest.approx(5.0 * moved[0], rel=1e-6)


def test_clipping_after_the_step_changes_nothing_of_it(parameter):
    p, q = parameter([3.0, 4.0], [3.0, 4.0]), parameter([3.0, 4.0], [3.0, 4.0])
    for x in (p, q):
        CLR([x]).step(loss=1.0)
    torch.nn.utils.clip_grad_norm_([q], 0.1)
    assert torch.equal(p.detach(), q.detach())


def test_gradients_are_unscaled_all_or_none():
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    p.grad, q.grad = torch.full((2,), 8.0), torch.ones_like(q)
    opt = CLR([p, q])
    opt.grad_scale = torch.tensor(8.0)
    with pytest.raises(ValueError, match="keep the parameters in float32"):
        opt.step(loss=1.0)
    assert p.grad.tolist() == [8.0, 8.0]


def test_lazy_modules_train():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.LazyLinear(3), torch.nn.Linear(3, 1))
    opt = CLR(model.parameters(), max_lr=float("inf"))
    losses = []
    for _ in range(5):
        opt.zero_grad()
        loss = model(torch.ones(4, 2)).square().mean()
        loss.backward()
        opt.step(loss=loss)
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]

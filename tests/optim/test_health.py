"""One warning where nothing moves or an option has taken over, and none where the loss decides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from corridor import CLR, CLRAdam
from corridor.optim import DAL, NGN, MoMo
from corridor.optim._health import EARLY, WINDOW


def run(parameter, losses, windows: int = 2, **options) -> list[warnings.WarningMessage]:
    p = parameter([1.0], [1.0])
    opt = CLR([p], **options)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for k in range(windows * WINDOW + 2):
            opt.step(loss=losses(k))
    return seen


def test_steps_at_the_cap_are_told_once_where_they_are_made(parameter):
    (told,) = run(parameter, lambda k: 5.0, max_lr=0.25)
    assert "at its cap in 100% of the last 1000 steps" in str(told.message)
    assert "fixed rate 0.25" in str(told.message)
    assert told.filename == __file__


def test_losses_under_f_star_are_told_once(parameter):
    (told,) = run(parameter, lambda k: 0.1 if k % 3 else 0.6, f_star=0.5)
    assert "at or under f_star = 0.5 in 67% of the last 1000 steps" in str(told.message)


def test_a_loss_that_decides_is_left_in_peace(parameter):
    assert not run(parameter, lambda k: 0.1 + (k % 5), windows=1)
    assert not run(parameter, lambda k: 0.2 if k % 3 else -1.0, windows=1, f_star=0.0)
    assert not run(parameter, lambda k: 5.0, windows=1, max_lr=float("inf"))


def test_ngn_is_told_of_a_bound_that_it_only_approaches(parameter):
    opt = NGN([parameter([1.0], [1.0])], sigma=0.1)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(WINDOW + 2):
            opt.step(loss=5.0)
    (told,) = seen
    assert "at its cap in 100%" in str(told.message)
    assert "fixed rate 0.1; raise the cap" in str(told.message)


def told_of(each_step: Callable[[int], Any], steps: int) -> str:
    """Return the one warning of a run."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for k in range(steps):
            each_step(k)
    (told,) = seen
    assert told.filename == __file__
    assert "\n" not in str(told.message)
    return str(told.message)


@pytest.mark.parametrize("least", [5.0, 3.0, 0.1])
@pytest.mark.parametrize("make", [CLR, lambda p: MoMo(p, estimate_f_star=True)])
def test_a_loss_that_arrives_at_f_star_above_its_minimum_is_told(least: float, make):
    """Up to rounding: x**2 - 3 ends at 4e-16, with steps that move nothing."""
    x = torch.nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
    opt = make([x])

    def step(k: int) -> None:
        opt.zero_grad()
        opt.watch(x.square() - least).backward()
        opt.step()

    message = told_of(step, 4 * WINDOW)
    assert float(x.detach()) == pytest.approx(least**0.5)
    assert "at or under f_star = 0.0" in message
    assert "lower f_star" in message


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_of_skipped_steps_is_told_early_and_once(parameter, bad: float):
    opt = CLR([parameter([1.0], [1.0])])
    message = told_of(lambda k: opt.step(loss=bad), 3 * WINDOW)
    assert f"100% of the last {EARLY} steps were skipped" in message


def test_gradients_cleared_before_the_step_are_told(parameter):
    for to_none in (True, False):
        x = parameter([1.0])
        opt = CLR([x])

        def step(k: int, x=x, opt=opt, to_none=to_none) -> None:
            loss = x.square().sum()
            loss.backward()
            opt.zero_grad(set_to_none=to_none)
            opt.step(loss=loss)

        assert "call backward() after zero_grad() and before step()" in told_of(step, EARLY + 2)


def test_a_closure_without_backward_is_told_at_once(parameter):
    x = parameter([1.0])
    opt = CLR([x], momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(opt, 10)  # which wraps the step in a frame of torch

    def step(k: int) -> None:
        opt.step(lambda: x.square().sum())
        schedule.step()

    assert "no parameter had a gradient" in told_of(step, 3)


def test_parameters_of_another_model_are_told(parameter):
    x = parameter([1.0])
    opt = CLR([parameter([1.0])])
    message = told_of(lambda k: opt.step(lambda: x.square().sum().backward() or 1.0), 3)
    assert "the parameters of this loss" in message


def test_a_solved_problem_is_nothing_to_tell(parameter):
    """No gradient is left, and the loss is at f_star: as hinges and fitted batches end."""
    assert_silent(CLR([parameter([1.0], [0.0])]), lambda opt, k: opt.step(loss=0.0))


def test_a_loss_that_still_falls_is_nothing_to_tell(parameter):
    """Far under its first value, even under the rounding of it."""
    x = parameter([1.0])
    opt = CLR([x], max_lr=0.05)
    opt._health.warned.add("capped")  # at the fixed rate 0.05, which is told elsewhere

    def step(opt: CLR, k: int) -> None:
        opt.zero_grad()
        opt.watch(x.square().sum()).backward()
        opt.step()

    assert_silent(opt, step)
    assert float(x.detach().square()) < 1e-40


def assert_silent(opt, each_step) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(WINDOW + 2):
            each_step(opt, k)


def test_a_negative_loss_is_nothing_to_tell_where_there_is_no_f_star(parameter):
    p = parameter([1.0])

    def step(opt: DAL, k: int) -> None:
        opt.zero_grad()
        opt.watch(p.square().sum() - 5.0).backward()
        opt.step()

    assert_silent(DAL([p]), step)


def test_losses_under_f_star_are_nothing_to_tell_while_their_average_moves(parameter):
    p = parameter([1.0], [1.0])
    opt = CLR([p], momentum=0.99, f_star=1.0, scale=0.5, max_lr=float("inf"))

    def step(opt: CLR, k: int) -> None:
        opt.step(loss=0.9 if k % 3 else 200.0)
        assert float(opt.param_groups[0]["effective_lr"]) > 0.0

    assert_silent(opt, step)


def test_a_cap_scheduled_to_nothing_is_nothing_to_tell(parameter):
    def step(opt: CLR, k: int) -> None:
        opt.param_groups[0]["lr"] = 0.0
        opt.step(loss=5.0)

    assert_silent(CLR([parameter([1.0], [1.0])]), step)


def test_an_optimizer_that_was_loaded_counts_anew(parameter):
    opt = CLR([parameter([1.0], [1.0])])
    for _ in range(10):
        opt.step(loss=0.1)
    again = CLR([parameter([1.0], [1.0])])
    again.load_state_dict(opt.state_dict())
    assert (opt._health.steps, again._health.steps) == (10, 0)


SCHEDULERS = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    "make",
    [
        lambda p: CLRAdam([p]),
        lambda p: CLR([p], drift=1.0),
        lambda p: CLR([p], max_lr=math.inf),
        lambda p: CLR([p], max_lr=torch.tensor(math.inf)),
    ],
)
def test_a_scheduler_of_an_infinite_cap_is_told_once(parameter, make):
    x = parameter([1.0])
    opt = make(x)
    schedule = SCHEDULERS.StepLR(opt, 5, 0.1)

    def step(k: int) -> None:
        opt.zero_grad()
        opt.watch(x.square().sum()).backward()
        opt.step()
        schedule.step()

    assert "scales the cap, which is infinite here, so it changes no step" in told_of(step, 6)


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("cap", [0.5, math.inf])
def test_no_scheduler_or_a_cap_that_it_sets_is_left_in_peace(parameter, cap, scheduled):
    opt = CLR([parameter([1.0], [1.0])], max_lr=cap)
    options = {"max_lr": 0.5, "total_steps": 10, "cycle_momentum": False}
    schedule = SCHEDULERS.OneCycleLR(opt, **options) if scheduled else None
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            opt.step(loss=1.0)
            if schedule:
                schedule.step()
    assert not seen

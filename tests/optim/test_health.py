"""One warning where an option has taken over, and none where the loss decides."""

from __future__ import annotations

import warnings

from corridor import CLR
from corridor.optim import DAL, NGN
from corridor.optim._limit import WINDOW


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
    assert "under f_star = 0.5 in 67% of the last 1000 steps" in str(told.message)


def test_a_loss_that_decides_is_left_in_peace(parameter):
    assert not run(parameter, lambda k: 0.1 + (k % 5), windows=1)
    assert not run(parameter, lambda k: 0.2 if k % 3 else -1.0, windows=1, f_star=0.0)
    assert not run(parameter, lambda k: float("nan"), windows=1, max_lr=0.1)
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

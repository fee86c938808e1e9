import math

import pytest
import torch

from corridor.train.metrics import PATIENCE, Numbers, Step, Watch, fetch


def line(loss=1.0, grad_norm=1.0, skipped=0):
    return {"loss": loss, "grad_norm": grad_norm, "skipped": skipped}


def test_fetch_gives_one_line_a_step_in_order():
    steps = [
        Step(
            step=k,
            epoch=0,
            seconds=k / 4,
            numbers=Numbers(
                loss=torch.tensor(float(k)),
                grad_norm=torch.tensor(float(k)),
                effective_lr=torch.tensor(0.5),
                skipped=torch.tensor(k),
            ),
        )
        for k in (1, 2, 3)
    ]
    lines = fetch(steps)
    assert [entry["grad_norm"] for entry in lines] == [1.0, 2.0, 3.0]
    assert lines[2] == {
        "step": 3,
        "epoch": 0,
        "loss": 3.0,
        "effective_lr": 0.5,
        "grad_norm": 3.0,
        "skipped": 3,
        "seconds": 0.75,
    }


def test_fetch_of_nothing_is_nothing():
    assert fetch([]) == []


@pytest.mark.parametrize("bad", [{"loss": math.nan}, {"loss": math.inf}, {"grad_norm": math.inf}])
def test_without_skipping_the_first_non_finite_number_ends_the_run(bad):
    assert Watch(skips=False).diverged([line(), line(**bad), line()]) == 1


def test_with_skipping_it_takes_many_in_a_row_even_over_several_fetches():
    watch = Watch(skips=True)
    some = [line(loss=math.nan, skipped=k + 1) for k in range(PATIENCE - 1)]
    assert watch.diverged(some) is None
    assert watch.diverged([line(loss=math.nan, skipped=PATIENCE)]) == 0


def test_a_step_that_was_taken_starts_the_count_again():
    watch = Watch(skips=True)
    watch.diverged([line(skipped=k + 1) for k in range(PATIENCE - 1)])
    assert watch.diverged([line(skipped=PATIENCE - 1), line(skipped=PATIENCE)]) is None
    assert watch.in_row == 1

import math

import pytest
import torch

from corridor.train.loop import PATIENCE, Watch, fetch
from corridor.train.processes.team import Team


def line(loss=1.0, grad_norm=1.0, skipped=0):
    return {"loss": loss, "grad_norm": grad_norm, "skipped": skipped}


def test_fetch_puts_numbers_in_place_of_tensors_line_by_line():
    lines = [
        {
            "step": k,
            "loss": torch.tensor(float(k)),
            "effective_lr": 0.5,
            "skipped": torch.tensor(k),
            "rho": 2.0,
        }
        for k in (1, 2, 3)
    ]
    fetch(lines, Team())
    assert lines[2] == {"step": 3, "loss": 3.0, "effective_lr": 0.5, "skipped": 3, "rho": 2.0}
    assert [line["loss"] for line in lines] == [1.0, 2.0, 3.0]
    assert [type(line["skipped"]) for line in lines] == [int, int, int]


def test_fetch_of_nothing_is_nothing():
    lines = []
    fetch(lines, Team())
    assert lines == []


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

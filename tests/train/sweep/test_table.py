"""The table that ends a sweep."""

import pytest

from corridor.train.folder.record import Summary
from corridor.train.sweep.grid import comparison


def finished(loss, accuracy=None):
    return Summary("finished", final_loss=loss, final_test_accuracy=accuracy)


@pytest.mark.parametrize("name", ["a_seed-{}", "a_seed{}", "seed-{}_a"])
def test_seeds_of_a_setting_share_a_line(name):
    names = [name.format(seed) for seed in range(3)]
    _, line = comparison(names, [finished(0.1), finished(0.3), None])
    assert line.split() == ["a", "2", "of", "3", "0.2", "[0.1,", "0.3]", "-"]


def test_the_lowest_loss_comes_first_and_what_did_not_finish_last():
    runs = {"x": Summary("diverged", final_loss=0.0), "y": finished(2.0, 0.5), "z": finished(1.0)}
    lines = comparison(list(runs), list(runs.values()))
    assert [line.split()[0] for line in lines] == ["setting", "z", "y", "x"]
    assert lines[2].split()[-2:] == ["50", "%"]


def test_one_run_is_compared_with_nothing():
    assert comparison(["seed-0"], [finished(1.0)]) == []
    assert comparison(["seed-0", "seed-1"], [None, None])[1].split()[:2] == ["all", "seeds"]

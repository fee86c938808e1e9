import math

import pytest

from corridor.train.config import Config
from corridor.train.folder.record import Summary
from corridor.train.sweep.grid import comparison, grid, parse_axes, read_grid


def names(runs):
    return [run.name for run in runs]


def test_every_combination_is_a_run_and_its_name_tells_which():
    runs = grid({"data": "digits", "batch_size": [32, 64], "seed": [0, 1]})
    assert names(runs) == [
        "batch_size-32_seed-0",
        "batch_size-32_seed-1",
        "batch_size-64_seed-0",
        "batch_size-64_seed-1",
    ]
    assert runs[1].config == Config(data="digits", batch_size=32, seed=1)


def test_variants_are_grids_beside_each_other():
    variants = [{"optimizer": "clr", "lr": "inf"}, {"optimizer": "sgd", "lr": [0.1, 1]}]
    runs = grid({"seed": [3]}, variants)
    assert names(runs) == [
        "optimizer-clr_lr-inf_seed-3",
        "optimizer-sgd_lr-0.1_seed-3",
        "optimizer-sgd_lr-1_seed-3",
    ]
    assert runs[0].config.lr == math.inf
    assert runs[2].config == Config(optimizer="sgd", lr=1.0, seed=3)


def test_a_variants_own_option_wins():
    (run,) = grid({"epochs": 5}, [{"epochs": 1}])
    assert run.config.epochs == 1


def test_equal_settings_run_once():
    assert names(grid({"lr": [1, 1.0]})) == ["lr-1"]


def test_one_setting_is_one_run():
    assert names(grid({"seed": 4})) == ["run"]


def test_names_are_folder_names():
    (run,) = grid({"data": ["imagefolder:/data/my pets"]})
    assert run.name == "data-imagefolder-data-my-pets"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": [1]}, "has no option 'rate'"),
        ({"seed": []}, "seed must have values"),
        ({"optimizer": ["sgd"]}, "lr must be a number for optimizer"),
        ({"lr": [1e-10, 1.0000000001e-10]}, "got lr-1e-10 twice"),
    ],
)
def test_what_is_no_grid_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        grid(options)


def test_a_file_and_what_overrides_it(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'model = "cnn"\nseed = [0, 1]\n'
        '[[variant]]\noptimizer = "clr"\n'
        '[[variant]]\noptimizer = "sgd"\nlr = [0.1, inf]\n'
    )
    with pytest.raises(ValueError, match=r"grid\.toml: lr must be finite for optimizer 'sgd'"):
        read_grid(path)
    runs = read_grid(path, {"lr": 0.5, "seed": [7]})
    assert names(runs) == ["optimizer-clr_seed-7", "optimizer-sgd_seed-7"]
    assert {run.config.lr for run in runs} == {0.5}
    assert runs[0].config.model == "cnn"


@pytest.mark.parametrize("text", ["seed = [", "[variant]\nseed = 1", "variant = 3"])
def test_a_file_that_is_no_grid_is_named(tmp_path, text):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(ValueError, match=r"grid\.toml: "):
        read_grid(tmp_path / "grid.toml")


def test_words_of_a_command_line():
    assert parse_axes(["batch-size=32,64", "lr=1e-3,inf", "data=digits", "steps=none"]) == {
        "batch_size": [32, 64],
        "lr": [1e-3, math.inf],
        "data": ["digits"],
        "steps": [None],
    }


def test_an_axis_that_is_given_twice_is_refused():
    with pytest.raises(ValueError, match="batch_size must be one axis, got two"):
        parse_axes(["batch-size=32", "lr=1", "batch_size=64"])


@pytest.mark.parametrize("word", ["lr", "=3", "lr=", ""])
def test_words_of_another_form_are_refused(word):
    with pytest.raises(ValueError, match="name=value"):
        parse_axes([word])


def test_a_setting_is_ranked_by_all_of_its_seeds():
    won = Summary("finished", final_loss=0.01, final_test_accuracy=0.99)
    lost = Summary("diverged", final_test_accuracy=0.1)
    runs: dict[str, Summary | None] = {"lr-9_seed-0": won, "lr-9_seed-1": lost, "lr-9_seed-2": None}
    runs |= {f"lr-5_seed-{i}": lost for i in range(3)}
    runs |= {f"lr-1_seed-{i}": Summary("finished", final_loss=0.02) for i in range(3)}
    runs |= {"lr-2_seed-0": won, "lr-2_seed-1": won, "lr-2_seed-2": lost}
    _, *rows = comparison(list(runs), list(runs.values()))
    assert [row.split()[0] for row in rows] == ["lr-2", "lr-1", "lr-9", "lr-5"]
    assert rows[2].split()[1:5] == ["1", "of", "3", "0.01"]

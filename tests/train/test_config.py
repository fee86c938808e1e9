import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from corridor.train.config import Config, differences


def test_round_trip_through_json_keeps_every_field_and_infinity():
    config = Config(optimizer="clr", lr=math.inf, steps=7, augment=True, f_star=-1.5)
    text = json.dumps(config.to_dict(), allow_nan=False)
    assert Config.from_dict(json.loads(text)) == config


def test_every_field_says_what_it_is():
    for entry in dataclasses.fields(Config):
        assert entry.metadata["help"].endswith("."), entry.name
        assert entry.metadata["group"]


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_an_integer_learning_rate_is_a_float():
    assert isinstance(Config(optimizer="sgd", lr=1).lr, float)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "adamax"}, ["optimizer", "clr, clr-adam, polyak, half-polyak", "'adamax'"]),
        ({"schedule": "linear"}, ["schedule", "constant, cosine", "'linear'"]),
        ({"precision": "float16"}, ["precision", "bfloat16", "'float16'"]),
        ({"device": "tpu"}, ["device", "cuda:N", "'tpu'"]),
        ({"device": "cuda:x"}, ["device", "'cuda:x'"]),
        ({"epochs": 0}, ["epochs", "at least 1", "0"]),
        ({"steps": 0}, ["steps", "at least 1"]),
        ({"batch_size": -4}, ["batch_size", "-4"]),
        ({"keep": 0}, ["keep", "at least 1"]),
        ({"workers": -1}, ["workers", "at least 0"]),
        ({"eval_every": -1}, ["eval_every"]),
        ({"seed": -1}, ["seed", "at least 0"]),
        ({"width": 0}, ["width"]),
        ({"batch_size": 10, "accumulate": 3}, ["accumulate", "divide", "3", "10"]),
        ({"optimizer": "sgd"}, ["sgd", "lr"]),
        ({"optimizer": "sgd", "lr": math.inf}, ["lr", "finite", "sgd"]),
        ({"optimizer": "sgd", "lr": 0.1, "f_star": 1.0}, ["f_star", "sgd"]),
        ({"optimizer": "adamw", "momentum": 0.9}, ["momentum", "adamw"]),
        ({"lr": math.nan}, ["lr", "nan"]),
        ({"lr": 0.0}, ["lr", "above 0"]),
        ({"lr": -1.0}, ["lr", "-1.0"]),
        ({"lr": math.inf, "schedule": "cosine"}, ["cosine", "finite lr"]),
        ({"momentum": 1.0}, ["momentum", "[0, 1)"]),
        ({"weight_decay": -0.1}, ["weight_decay", "-0.1"]),
        ({"weight_decay": math.inf}, ["weight_decay", "inf"]),
        ({"scale": 0.0}, ["scale", "above 0"]),
        ({"f_star": -math.inf}, ["f_star", "finite"]),
        ({"epochs": 2.5}, ["epochs", "int", "2.5"]),
        ({"epochs": True}, ["epochs", "int", "True"]),
        ({"augment": 1}, ["augment", "bool"]),
        ({"data": None}, ["data", "str", "None"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options, words):
    with pytest.raises(ValueError, match=r".") as caught:
        Config(**options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match=r"got learning_rate; known are data"):
        Config.from_dict({"learning_rate": 1})


def test_missing_fields_take_their_defaults():
    assert Config.from_dict({"seed": 4}) == Config(seed=4)


def test_differences_name_what_changes_the_numbers():
    assert differences(Config(), Config(lr=0.5, epochs=3, workers=2)) == ["lr", "epochs"]


def test_the_batched_loop_says_what_to_use_instead():
    with pytest.raises(ImportError, match=r"use corridor\.train\.sweep\.sweep"):
        from corridor.train import train_batched  # noqa: F401


def test_the_old_spelling_of_a_batch_norm_is_read():
    assert Config(batch_norm="synchronised") == Config(batch_norm="synchronized")


def test_numbers_of_numpy_and_torch_and_paths_become_plain(tmp_path):
    config = Config(
        lr=np.float64(0.5),
        momentum=np.float32(0.5),
        batch_size=np.int64(64),
        seed=torch.tensor(3),
        augment=np.bool_(True),
        drift=None,
        data_dir=tmp_path,
        model=np.str_("cnn"),
    )
    plain = Config(
        lr=0.5, momentum=0.5, batch_size=64, seed=3, augment=True, data_dir=str(tmp_path),
        model="cnn",
    )  # fmt: skip
    assert config == plain
    assert json.loads(json.dumps(config.to_dict())) == plain.to_dict()
    for wrong in (np.array([1, 2]), np.float64(1.5), Path("a"), "3"):
        with pytest.raises(ValueError, match="batch_size must be int, got"):
            Config(batch_size=wrong)


def test_the_names_of_train_come_from_the_package_itself():
    program = """
import corridor
corridor.train.read_run
from corridor.train import sweep, train
from corridor.train.sweep import sweep as same
import inspect
assert callable(sweep) and callable(train)
assert inspect.signature(sweep) == inspect.signature(same)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

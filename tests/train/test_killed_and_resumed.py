"""A run killed at any moment goes on, and comes to the same bits as one that was not."""

import random
import time

import pytest
import torch
from tests.train.processes import start_training

from corridor.train.folder import checkpoint
from corridor.train.folder.record import read_run

OPTIMIZERS = {
    "clr": {"optimizer": "clr"},
    "clr with momentum": {"optimizer": "clr", "momentum": 0.9, "weight_decay": 1e-3},
    "sgd with momentum and cosine": {
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "schedule": "cosine",
    },
    "adamw, micro-batches and augmentation": {
        "optimizer": "adamw",
        "accumulate": 2,
        "augment": True,
    },
}


def newest_step(out):
    steps = [int(path.name[5:]) for path in (out / "checkpoints").glob("step-*")]
    return max(steps, default=0)


def wait_for(condition, process, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < end, "the run did not come so far"
        time.sleep(0.001)


def final_state(out, steps):
    return checkpoint.read(out / "checkpoints" / f"step-{steps:09d}").states


def assert_same(one, other):
    if isinstance(one, dict):
        assert one.keys() <= other.keys()  # loading may add options at their defaults
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize(
    "name",
    [
        "clr with momentum",
        pytest.param("sgd with momentum and cosine", marks=pytest.mark.slow),
        pytest.param("clr", marks=pytest.mark.slow),
        pytest.param("adamw, micro-batches and augmentation", marks=pytest.mark.slow),
    ],
)
def test_killed_runs_come_to_the_same_bits(tmp_path, small, name):
    # Epochs have 11 steps: most checkpoints lie within one.
    config = small(
        model="tests.train.small_networks:noisy",
        batch_size=128,
        epochs=8,
        checkpoint_every=7,
        eval_every=3,
        **OPTIMIZERS[name],
    )
    whole = start_training(config, tmp_path / "whole")
    for target in (random.randrange(14, 30), random.randrange(36, 56)):
        killed = start_training(config, tmp_path / "killed")
        wait_for(lambda target=target: newest_step(tmp_path / "killed") >= target, killed)
        time.sleep(random.random() * 0.02)
        killed.kill()
        killed.join()
        assert not (tmp_path / "killed" / "summary.json").exists()
        read_run(tmp_path / "killed")  # whatever was cut off, the folder can be read
    last = start_training(config, tmp_path / "killed")
    for process in (whole, last):
        process.join()
        assert process.exitcode == 0

    one, other = (read_run(tmp_path / folder) for folder in ("whole", "killed"))
    assert [line["step"] for line in other.steps] == list(range(1, 89))
    for key in ("epoch", "loss", "effective_lr", "grad_norm", "skipped"):
        assert [line[key] for line in one.steps] == [line[key] for line in other.steps], key
    for key in ("step", "epoch", "test_loss", "test_accuracy"):
        assert [line[key] for line in one.evaluations] == [line[key] for line in other.evaluations]
    assert one.summary is not None
    assert other.summary is not None
    for key in ("status", "steps", "final_loss", "best_test_accuracy", "skipped"):
        assert one.summary[key] == other.summary[key]
    assert_same(final_state(tmp_path / "whole", 88), final_state(tmp_path / "killed", 88))

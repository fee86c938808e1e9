"""Training with a limit on the drift: what the loop hands over, and what may not be asked."""

import math

import pytest
import torch
from tests.train.processes import start_training
from torch.nn.functional import cross_entropy

from corridor.optim import CLR
from corridor.train.config import Config
from corridor.train.folder.record import read_run
from corridor.train.loop import train
from corridor.train.optimizers import build
from corridor.train.trainer import Trainer

# Sums over 650 parameters and 256 images in float32, in any order, at each of five steps.
ROUNDING = 5 * (650 + 256) ** 0.5 * torch.finfo(torch.float32).eps * 5


def steps(folder):
    return [(line["loss"], line["effective_lr"]) for line in read_run(folder).steps]


def test_the_limit_takes_the_place_of_the_cap(small):
    config = small(drift=0.5)
    assert config.lr == math.inf
    trainer = Trainer(config, torch.device("cpu"))
    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, CLR)
    assert (group["drift"], group["lr"]) == (0.5, math.inf)


def test_steps_are_those_of_the_optimizer_watching_the_loss(tmp_path, small):
    config = small(drift=0.1, steps=5)
    train(config, tmp_path, progress=False)
    torch.manual_seed(config.seed)
    trainer = Trainer(config, torch.device("cpu"))
    optimizer = build(config.optimizer, trainer.parameters, vars(config))
    made = steps(tmp_path)
    for (images, labels), (loss, rate) in zip(trainer.loader.train(0), made, strict=True):
        optimizer.zero_grad()
        found = cross_entropy(trainer.model(images), labels)
        optimizer.watch(found).backward()
        optimizer.step()
        assert found.item() == pytest.approx(loss, rel=ROUNDING)
        assert float(optimizer.param_groups[0]["effective_lr"]) == pytest.approx(rate, rel=ROUNDING)
        assert rate < loss / sum(p.grad.square().sum() for p in trainer.parameters)


def test_a_small_limit_makes_small_steps(tmp_path, small):
    for drift in (0.01, 10.0):
        train(small(drift=drift, steps=5), tmp_path / str(drift), progress=False)
    little, much = (max(rate for _, rate in steps(tmp_path / n)) for n in ("0.01", "10.0"))
    assert little < 0.1 * much


def test_micro_batches_measure_the_same_drift(tmp_path, small):
    for parts in (1, 4):
        config = small(drift=0.1, steps=1, accumulate=parts)
        train(config, tmp_path / str(parts), progress=False)
    (loss, rate), (other, its) = steps(tmp_path / "1")[0], steps(tmp_path / "4")[0]
    assert loss == pytest.approx(other, rel=ROUNDING)
    assert 0.5 < rate / its < 2  # the first micro-batch stands for all: no factor of their number


def test_a_resumed_run_goes_on_to_the_last_bit(tmp_path, small):
    noisy = {"model": "tests.train.small_networks:noisy", "drift": 0.2}
    start_training(small(**noisy, epochs=4), tmp_path / "whole").join()
    start_training(small(**noisy, epochs=2), tmp_path / "cut").join()
    start_training(small(**noisy, epochs=4), tmp_path / "cut").join()
    assert steps(tmp_path / "whole") == steps(tmp_path / "cut")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"drift": 0.0}, "drift must be above 0"),
        ({"drift": 1.0, "compile": True}, "differentiates twice"),
        ({"drift": 1.0, "optimizer": "sgd", "lr": 0.1}, "has no option 'drift'"),
        ({"drift": 1.0, "schedule": "cosine"}, "got an infinite cap"),
    ],
)
def test_what_cannot_be_is_one_line(options, words):
    with pytest.raises(ValueError, match=words):
        Config(**options)


def test_the_config_settles_the_learning_rate_that_it_leaves_open():
    found = {name: Config(optimizer=name).lr for name in ("clr", "adamw", "sps-safe", "momo-adam")}
    assert found == {"clr": 1.0, "adamw": 1e-3, "sps-safe": math.inf, "momo-adam": 1e-2}
    old = Config().to_dict() | {"lr": None}
    assert Config.from_dict(old) == Config()


def test_clr_adam_trains_and_its_limit_is_logged(tmp_path, small):
    config = small(optimizer="clr-adam", steps=5)
    assert train(config, tmp_path, progress=False).status == "finished"
    lines = read_run(tmp_path).steps
    assert all(0.0 < line["effective_lr"] <= line["drift_limit"] for line in lines)
    group = Trainer(config, torch.device("cpu")).optimizer.param_groups[0]
    assert (group["drift"], group["momentum"], group["lr"]) == (3.0, 0.9, math.inf)


def test_clr_adam_takes_the_drift_and_momentum_of_the_config(small):
    config = small(optimizer="clr-adam", drift=0.5, momentum=0.5)
    group = Trainer(config, torch.device("cpu")).optimizer.param_groups[0]
    assert (group["drift"], group["momentum"]) == (0.5, 0.5)

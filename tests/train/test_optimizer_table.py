import math

import pytest
import torch

from corridor import CLR
from corridor.train.config import Config
from corridor.train.optimizers import OPTIMIZERS, schedule
from corridor.train.optimizers import build as build_by_name


def weights(dtype=torch.float32):
    return [torch.ones(4, dtype=dtype, requires_grad=True)]


def build(parameters, config):
    return build_by_name(config.optimizer, parameters, vars(config))


def test_clr_takes_lr_as_its_cap_and_its_own_default_without():
    own = CLR(weights()).param_groups[0]["lr"]
    assert build(weights(), Config()).param_groups[0]["lr"] == own
    assert build(weights(), Config(lr=math.inf)).param_groups[0]["lr"] == math.inf
    assert build(weights(), Config(lr=0.25)).param_groups[0]["lr"] == 0.25


def test_clr_gets_all_of_its_options():
    config = Config(momentum=0.9, weight_decay=0.1, f_star=0.2, scale=0.5)
    group = build(weights(), config).param_groups[0]
    assert {k: group[k] for k in ("momentum", "weight_decay", "f_star", "scale")} == {
        "momentum": 0.9,
        "weight_decay": 0.1,
        "f_star": 0.2,
        "scale": 0.5,
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_kernels_are_left_alone_for_short_floats_on_the_cpu(name, dtype):
    config = Config(optimizer=name, lr=0.1)
    assert not build(weights(dtype), config).param_groups[0]["fused"]
    assert build(weights(), config).param_groups[0]["fused"]


def test_adamw_has_a_learning_rate_of_its_own():
    assert build(weights(), Config(optimizer="adamw")).param_groups[0]["lr"] == 1e-3


def test_cosine_scales_the_learning_rate_from_one_to_zero():
    config = Config(optimizer="sgd", lr=0.8, schedule="cosine")
    optimizer = build(weights(), config)
    scheduler = schedule(optimizer, config.schedule, total=4)
    assert scheduler is not None
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    expected = [0.4 * (1 + math.cos(math.pi * k / 4)) for k in range(5)]
    assert rates == pytest.approx(expected, abs=1e-12)
    assert rates[-1] == 0


def test_cosine_scales_the_cap_of_clr():
    config = Config(lr=0.8, schedule="cosine")
    optimizer = build(weights(), config)
    scheduler = schedule(optimizer, config.schedule, total=2)
    assert scheduler is not None
    weight = optimizer.param_groups[0]["params"][0]
    sizes = []
    for _ in range(2):
        weight.grad = torch.full((4,), 1e-3)
        optimizer.step(loss=torch.tensor(1.0))  # pyright: ignore[reportCallIssue]
        sizes.append(float(optimizer.param_groups[0]["effective_lr"]))
        scheduler.step()
    assert sizes == pytest.approx([0.8, 0.4])


def test_a_constant_schedule_is_none():
    config = Config()
    assert schedule(build(weights(), config), config.schedule, total=3) is None


RELATIVES = [
    name for name, row in OPTIMIZERS.items() if row.takes_loss and name not in ("clr", "polyak")
]


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_get_their_options_and_keep_their_own_defaults(name):
    config = Config(optimizer=name, lr=0.25, momentum=0.5, f_star=-0.1, weight_decay=0.01)
    group = build(weights(), config).param_groups[0]
    given = {"lr": 0.25, "momentum": 0.5, "f_star": -0.1, "weight_decay": 0.01}
    assert {key: group[key] for key in given} == given
    own = build(weights(), Config(optimizer=name)).param_groups[0]
    averaging = name.startswith("momo") or name == "clr-adam"
    assert own["momentum"] == (0.9 if averaging else 0.0)
    with pytest.raises(ValueError, match="has no option 'scale'"):
        Config(optimizer=name, scale=0.5)

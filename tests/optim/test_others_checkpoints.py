"""Checkpoints of another optimizer: what means the same moves over, the rule begins anew."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tests.relatives import RELATIVES
from torch import nn

from corridor import CLR, CLRAdam
from corridor.optim import DAL, MoMo, SPSMax

# One of each motion, each kind of scalars and each limit. The rest repeats their buffers and keys.
DIFFERENT = ["CLR", "CLR, momentum", "HalfPolyak", "SPSMax, momentum", "DecSPS", "MoMoAdam"]
MAKERS = {
    **{name: RELATIVES[name] for name in (*DIFFERENT, "MoMo, bound estimated")},
    "CLR, drift": lambda p, **o: CLR(p, **{"drift": 0.5, "every": 3, **o}),
    "CLRAdam": CLRAdam,
    "DAL": DAL,
}
PAIRS = [pair for pair in itertools.product(MAKERS, MAKERS) if pair[0] != pair[1]]


def start() -> nn.Parameter:
    return nn.Parameter(torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64))


def train(p: nn.Parameter, opt, steps: int) -> list[float]:
    sizes = []
    for k in range(steps):
        opt.zero_grad()
        scales = torch.tensor([1.0, 3.0, 2.0 + k], dtype=torch.float64)
        loss = 0.5 * (scales * p.square()).sum() + 1.0
        getattr(opt, "watch", lambda loss: loss)(loss).backward()
        opt.step()
        sizes.append(float(opt.param_groups[0].get("effective_lr", 0.0)))
    return sizes


def loaded(source, target):
    """The target with a copy of the source's checkpoint."""
    target.load_state_dict(copy.deepcopy(source.state_dict()))
    return target


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_rule_stays_its_own_and_goes_on(source: str, target: str):
    p = start()
    first = MAKERS[source]([p])
    train(p, first, 4)
    fresh, opt = MAKERS[target]([p]), MAKERS[target]([p])
    loaded(first, opt)
    options, kept = fresh.param_groups[0], opt.param_groups[0]
    same = type(first) is type(opt)
    if not same:
        assert all(kept[key] == options[key] for key in opt._owner.shared)
        assert all(torch.equal(kept[key], options[key]) for key in opt.MEMORY if key in options)
    assert kept["lr"] == first.param_groups[0]["lr"]
    assert set(opt.state[p]) <= {*opt.MOTION.buffers, *opt.MOTION.memory}
    sizes = train(p, opt, 3)
    assert bool(p.isfinite().all())
    assert max(sizes) > 0.0


@pytest.mark.parametrize(
    "target", [name for name, make in MAKERS.items() if make([start()])._motion().memory == ()]
)
@pytest.mark.parametrize("source", MAKERS)
def test_without_averages_the_next_step_is_the_first_of_a_fresh_one(source: str, target: str):
    ends = []
    for through_checkpoint in (True, False):
        p = start()
        first = MAKERS[source]([p])
        train(p, first, 4)
        opt = MAKERS[target]([p])
        goes_on = any(set(kept) & {*opt.MOTION.buffers} for kept in first.state.values())
        if goes_on or type(opt) is type(first):
            return
        if through_checkpoint:
            loaded(first, opt)
        opt.param_groups[0]["lr"] = 0.3
        train(p, opt, 2)
        ends.append(p.detach())
    assert torch.equal(*ends)


def test_averages_go_on_in_an_optimizer_that_keeps_the_same():
    p = start()
    first = CLR([p], momentum=0.9)
    train(p, first, 4)
    momo = loaded(first, MoMo([p]))
    heavy = loaded(first, SPSMax([p], momentum=0.9))
    assert torch.equal(momo.state[p]["gradient_average"], first.state[p]["gradient_average"])
    for key in ("loss_average", "average_weight", "average_shift"):
        assert torch.equal(momo.param_groups[0][key], first.param_groups[0][key])
    assert not heavy.state[p]


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_torchs_own_bring_their_rates_and_nothing_else(make):
    p = start()
    first = make([p], lr=0.01)
    train(p, first, 2)
    opt = loaded(first, MoMo([p], momentum=0.8, f_star=0.1))
    assert not opt.state[p]
    group = opt.param_groups[0]
    assert (group["lr"], group["momentum"], group["f_star"]) == (0.01, 0.8, 0.1)
    assert 0.0 < max(train(p, opt, 2)) <= 0.01

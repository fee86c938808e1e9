"""DAL: the ratio from the graph, the rule, and what the graph must allow."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.problems import PROBLEMS, Problem
from torch import nn

from corridor.optim import DAL


@pytest.mark.parametrize("problem", PROBLEMS[1:], ids=lambda p: p.name)
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_step_is_that_of_a_dense_hessian(problem: Problem, power: float):
    params = [nn.Parameter(t) for t in problem.start()]
    opt = DAL(params, max_lr=math.inf, power=power)
    loss = opt.watch(problem.loss(params))
    loss.backward()
    flat = torch.cat([p.detach().reshape(-1) for p in params])

    def of_flat(x):
        parts = x.split([p.numel() for p in params])
        return problem.loss([t.view_as(p) for t, p in zip(parts, params, strict=True)])

    hessian = torch.autograd.functional.hessian(of_flat, flat)
    g = torch.cat([p.grad.reshape(-1) for p in params])
    expected = 2.0 / (float((hessian @ g).norm()) / float(g.norm())) ** power
    opt.step()
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(expected, rel=1e-11)


def test_in_a_corridor_the_step_is_its_cap():
    x = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    opt = DAL([x], max_lr=0.5)
    opt.watch(x @ torch.tensor([0.6, 0.8]).double()).backward()
    opt.step()
    assert float(opt.param_groups[0]["effective_lr"]) == 0.5


def test_in_a_corridor_without_a_cap_the_step_is_huge_and_finite(parameter):
    opt = DAL([parameter([3.0])], max_lr=math.inf)
    opt.watch(1e-300 * opt.param_groups[0]["params"][0].sum()).backward()
    opt.step()
    step = float(opt.param_groups[0]["effective_lr"])
    assert 1e300 < step < math.inf


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


def train(model: nn.Module, opt: DAL, first: int, last: int) -> list[float]:
    sizes = []
    for k in range(first, last):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(k))
        opt.zero_grad()
        opt.watch((model(x) - x.sum(1, keepdim=True)).square().mean()).backward()
        opt.step()
        sizes.append(float(opt.param_groups[0]["effective_lr"]))
    return sizes


def test_measuring_leaves_no_trace_and_training_learns():
    model = network()
    opt = DAL(model.parameters())
    x = torch.randn(16, 4)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    buffers = copy.deepcopy(dict(model.named_buffers()))
    state = torch.get_rng_state()
    opt.watch(loss)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
    loss.backward()
    opt.step()
    train(model, opt, 0, 60)
    final = (model(x) - x.sum(1, keepdim=True)).square().mean().item()
    assert final < 0.5 * loss.item()


def test_the_ratio_is_kept_between_measurements_and_over_a_resumption():
    model = network()
    opt = DAL(model.parameters(), every=3)
    sizes = train(model, opt, 0, 5)
    assert sizes[0] == sizes[1] == sizes[2] != sizes[3] == sizes[4]
    again_model, again = copy.deepcopy(model), DAL(network().parameters(), every=3)
    again = DAL(again_model.parameters(), every=3)
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert train(again_model, again, 5, 8) == train(model, opt, 5, 8)
    for p, q in zip(model.parameters(), again_model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_loss_without_its_graph_is_refused(parameter):
    p = parameter([1.0], [1.0])
    with pytest.raises(ValueError, match=r"needs the graph of the loss.*watch") as error:
        DAL([p]).step(loss=1.0)
    assert "\n" not in str(error.value)
    assert float(p.detach()) == 1.0


def test_a_step_that_is_not_finite_is_skipped_and_the_ratio_kept(parameter):
    p = parameter([1.0, 2.0])
    opt = DAL([p])
    opt.watch(p.square().sum()).backward()
    opt.step()
    before, ratio = p.detach().clone(), float(opt.param_groups[0]["hessian_ratio"])
    opt.zero_grad()
    opt.watch(p.square().sum() * math.nan).backward()
    opt.step()
    assert torch.equal(p.detach(), before)
    assert float(opt.param_groups[0]["hessian_ratio"]) == ratio == 2.0


def test_graphs_that_cannot_be_differentiated_twice_are_refused_in_one_line():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    opt = DAL(layer.parameters())
    with pytest.raises(ValueError, match=r"cannot be differentiated twice.*sdpa_kernel") as error:
        opt.watch(layer(torch.randn(2, 3, 8)).square().mean())
    assert "\n" not in str(error.value)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        opt.watch(layer(torch.randn(2, 3, 8)).square().mean()).backward()
    opt.step()
    assert 0.0 < float(opt.param_groups[0]["effective_lr"]) <= 5.0


def test_options_out_of_range_are_refused(parameter):
    for options in ({"every": 0}, {"every": 1.5}, {"power": -1.0}):
        with pytest.raises(ValueError, match=r"(every|power) must be"):
            DAL([parameter([1.0])], **options)

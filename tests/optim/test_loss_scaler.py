"""The loss under a GradScaler."""

from __future__ import annotations

import pytest
import torch
from tests.optim.regression import check_equal, data, fresh, loss_of, reference
from torch import nn

from corridor import CLR


@pytest.mark.parametrize("unscale_first", [False, True])
@pytest.mark.parametrize("channel", ["loss", "watch", "attach"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_grad_scaler_changes_nothing(channel: str, unscale_first: bool, momentum: float):
    model, opt = fresh(momentum=momentum)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    known = scaler if unscale_first else None
    if channel == "attach":
        opt.attach(model, scaler=known)
    for _ in range(3):
        opt.zero_grad()
        loss = model(*data()).loss
        if channel == "watch":
            opt.watch(loss, scaler=known)
        scaler.scale(loss).backward()
        if unscale_first:
            scaler.unscale_(opt)
        scaler.step(opt, **({"loss": loss} if channel == "loss" else {}))
        scaler.update()
    check_equal(model, reference(momentum=momentum))


def test_grad_scaler_overflow_is_a_counted_skip():
    model, opt = fresh(momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for k in range(4):
        opt.zero_grad()
        loss = opt.watch(loss_of(model, *data()))
        scaler.scale(loss).backward()
        if k == 1:
            model.layer.bias.grad[0] = float("inf")
        scaler.step(opt)
        scaler.update()
    assert int(opt.param_groups[0]["skipped"]) == 1
    check_equal(model, reference(momentum=0.9))


def test_a_loss_whose_scale_is_unknown_is_refused():
    model, opt = fresh()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(opt.watch(loss_of(model, *data()))).backward()
    scaler.unscale_(opt)
    with pytest.raises(ValueError, match=r"watch\(loss, scaler=scaler\)"):
        scaler.step(opt)


def test_an_error_in_a_scaled_step_leaves_no_scale_behind():
    model, opt = fresh()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    loss = loss_of(model, *data())
    scaler.scale(loss).backward()
    with pytest.raises(ValueError, match="no loss"):
        scaler.step(opt)
    opt.zero_grad()
    loss = loss_of(model, *data())
    loss.backward()
    opt.step(loss=loss)
    check_equal(model, reference(steps=1))


def test_the_scalers_verdict_is_obeyed():
    model, opt = fresh()
    loss = loss_of(model, *data())
    loss.backward()
    before = [p.detach().clone() for p in model.parameters()]
    opt.found_inf = torch.tensor(1.0)
    opt.step(loss=loss)
    check_equal(model, before)
    assert int(opt.param_groups[0]["skipped"]) == 1


def test_a_scaler_without_any_gradient_makes_no_step():
    model, opt = fresh()
    opt.found_inf, opt.grad_scale = 0, torch.tensor(8.0)  # as GradScaler sets them then
    before = [p.detach().clone() for p in model.parameters()]
    opt.step(loss=1.0)
    check_equal(model, before)


def test_float16_parameters_under_a_scaler_are_refused():
    p = nn.Parameter(torch.ones(2, dtype=torch.float16))
    p.grad = torch.ones_like(p)
    opt = CLR([p])
    opt.grad_scale = torch.tensor(65536.0)
    with pytest.raises(ValueError, match="keep the parameters in float32"):
        opt.step(loss=1.0)

"""Which backward passes count."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.optim.regression import check_equal, data, fresh, loss_of, reference
from torch import nn

from corridor import CLR, measure
from corridor.optim import DAL


@pytest.mark.parametrize("in_place", [False, True])
def test_an_attached_model_compiles_without_a_break(in_place: bool):
    torch._dynamo.reset()
    model, opt = fresh("scalar")
    opt.attach(model)
    if in_place:
        model.compile(fullgraph=True, backend="aot_eager")
    compiled = model if in_place else torch.compile(model, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        opt.zero_grad()
        compiled(*data()).backward()
        opt.step()
    check_equal(model, reference())


def test_a_compiled_backward_pass_counts():
    torch._dynamo.reset()
    model, opt = fresh()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        for _ in range(3):
            opt.zero_grad()
            opt.watch(loss_of(model, *data())).backward()
            opt.step()
    check_equal(model, reference())


def test_a_loss_of_other_parameters_makes_no_step():
    (model, _), (_, opt) = fresh(), fresh()
    opt.watch(loss_of(model, *data())).backward()
    with pytest.raises(ValueError, match="give the optimizer the parameters of the loss"):
        opt.step()


def test_passes_that_leave_grad_alone_do_not_count():
    model, opt = fresh("scalar")
    opt.attach(model)
    params = list(model.parameters())
    loss = model(*data())
    torch.autograd.grad(loss, params, create_graph=True)
    torch.autograd.grad(loss, params[1:], retain_graph=True)
    loss.backward()
    names = dict(model.named_parameters())
    torch.func.grad(lambda p: torch.func.functional_call(model, p, data()))(names)
    opt.step()
    check_equal(model, reference(steps=1))


def only_the_inputs(loss, model, x) -> None:
    torch.autograd.grad(loss, x)


def backward_to_the_inputs(loss, model, x) -> None:
    loss.backward(inputs=[x])


def gradient_penalty(loss, model, x) -> None:
    (g,) = torch.autograd.grad(loss, x, create_graph=True)
    torch.autograd.grad(g.square().sum(), list(model.parameters()))


def a_jacobian(loss, model, x) -> None:
    torch.autograd.grad(
        loss, [x, *model.parameters()], torch.ones((1,)).double(), is_grads_batched=True
    )


@pytest.mark.parametrize(
    "attack",
    [only_the_inputs, backward_to_the_inputs, gradient_penalty, a_jacobian],
)
def test_an_attack_on_an_attached_model_does_not_count(attack):
    model, opt = fresh("scalar")
    opt.attach(model)
    x, y = data()
    for _ in range(3):
        opt.zero_grad()
        model(x, y).backward()
        for _ in range(2):
            moved = (x + 1.0).requires_grad_()
            attack(model(moved, y), model, moved)
        opt.step()
    check_equal(model, reference())


def test_an_attack_on_frozen_parameters_does_not_count():
    model, opt = fresh("scalar")
    opt.attach(model)
    x, y = data()
    model.requires_grad_(False)
    model((x + 1.0).requires_grad_(), y).backward()
    model.requires_grad_(True)
    model(x, y).backward()
    opt.step()
    check_equal(model, reference(steps=1))


def test_a_pass_that_fails_does_not_count():
    model, opt = fresh()
    failing = data()[0].requires_grad_()
    failing.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        opt.watch(3.0 * loss_of(model, failing, data()[1])).backward()
    model.zero_grad()
    opt.watch(loss_of(model, *data())).backward()
    opt.step()
    check_equal(model, reference(steps=1))


def test_a_pass_to_some_parameters_counts():
    model, opt = fresh()
    opt.watch(loss_of(model, *data())).backward(inputs=[model.layer.bias])
    other, by_hand = fresh()
    loss = loss_of(other, *data())
    loss.backward(inputs=[other.layer.bias])
    opt.step()
    by_hand.step(loss=loss)
    check_equal(model, list(other.parameters()))


def test_a_second_optimizers_measurement_does_not_count_for_the_first():
    model, opt = fresh()
    scale = nn.Parameter(torch.ones(2, dtype=torch.float64))
    other = DAL([scale])
    loss = opt.watch(loss_of(model, *data()) + (0.0 * scale).sum())
    with pytest.warns(UserWarning, match="two optimizers watch this loss.*groups of one"):
        other.watch(loss)
    loss.backward()
    opt.step()
    check_equal(model, reference(steps=1))
    assert len(other._channel.pending) == 1


def test_optimizers_of_one_model_follow_their_own_losses():
    """As in a GAN: the second loss also writes the gradients of the first optimizer."""
    model, opt = fresh()
    other = CLR([model.layer.bias], max_lr=1e-300)
    x, y = data()
    for _ in range(3):
        model.zero_grad()
        opt.watch(loss_of(model, x, y)).backward()
        opt.step()
        other.zero_grad()
        other.watch(5.0 * loss_of(model, x, y)).backward()
        other.step()
    check_equal(model, reference())


def test_a_reentrant_checkpoint_around_the_model_counts():
    from torch.utils.checkpoint import checkpoint

    model, opt = fresh()
    x, y = data()
    loss = checkpoint(lambda z: loss_of(model, z, y), x.requires_grad_(), use_reentrant=True)
    opt.watch(loss).backward()
    opt.step()
    check_equal(model, reference(steps=1))


@pytest.mark.parametrize("when", ["before the forward pass", "before backward", "before the step"])
def test_a_measurement_of_an_attached_model_changes_no_step(when):
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x):
            return SimpleNamespace(loss=(self.layer(x) - 1.0).square().mean())

    def train(measured):
        torch.manual_seed(0)
        model, x = WithLoss().double(), torch.randn(8, 3, dtype=torch.float64)
        opt = CLR(model.parameters(), max_lr=10.0)
        opt.attach(model)
        for _ in range(3):
            if measured and when == "before the forward pass":
                measure(lambda: model(x).loss, model.parameters())
            loss = model(x).loss
            if measured and when == "before backward":
                measure(lambda: model(x).loss, model.parameters())
            loss.backward()
            if measured and when == "before the step":
                measure(lambda: model(x).loss, model.parameters())
            opt.step()
            opt.zero_grad()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(train(measured=True), train(measured=False))


def test_a_parameter_that_is_the_loss_is_watched_by_a_clone():
    p = nn.Parameter(torch.tensor(2.0))
    opt = CLR([p], max_lr=0.5)
    for _ in range(2):
        opt.zero_grad()
        opt.watch(p.clone()).backward()
        opt.step()
    assert float(p.detach()) == 1.0
    opt.watch(p)
    with pytest.raises(ValueError, match=r"watched already; watch loss.clone\(\)"):
        opt.watch(p)

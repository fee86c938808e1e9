"""All the ways to hand over the loss give the same step."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from tests.optim.regression import check_equal, data, fresh, loss_of, reference

from corridor.optim._loss import find_loss


def test_closure():
    model, opt = fresh()

    def closure():
        opt.zero_grad()
        loss = loss_of(model, *data())
        loss.backward()
        return loss

    returned = [float(opt.step(closure).detach()) for _ in range(3)]
    assert returned[0] > returned[1]
    check_equal(model, reference())


@pytest.mark.parametrize("as_number", [False, True])
def test_closure_may_return_a_number(as_number: bool):
    model, opt = fresh()

    def closure():
        opt.zero_grad()
        loss = loss_of(model, *data())
        loss.backward()
        return loss.item() if as_number else loss.detach().reshape(1)

    for _ in range(3):
        opt.step(closure)
    check_equal(model, reference())


def test_watch():
    model, opt = fresh()
    for _ in range(3):
        opt.zero_grad()
        opt.watch(loss_of(model, *data())).backward()
        assert opt.step() is None
    check_equal(model, reference())


@pytest.mark.parametrize("form", ["object", "dict", "tuple", "scalar"])
def test_attach(form: str):
    model, opt = fresh(form)
    handle = opt.attach(model)
    for _ in range(3):
        opt.zero_grad()
        find_loss(model(*data())).backward()
        with torch.no_grad():
            model(*data(4))  # an evaluation in between counts for nothing
        model(*data(4))  # nor does a forward that is never differentiated
        opt.step()
    check_equal(model, reference())
    handle.remove()
    model(*data())
    with pytest.raises(ValueError, match="no loss reached the optimizer"):
        opt.step()


def test_accumulation_sees_the_mean_of_the_micro_losses():
    model, opt = fresh()
    x, y = data()
    for _ in range(3):
        opt.zero_grad()
        for k in range(4):
            rows = slice(2 * k, 2 * k + 2)
            (opt.watch(loss_of(model, x[rows], y[rows])) / 4).backward()
        opt.step()
    check_equal(model, reference())


def test_accumulation_with_a_closure_keeps_what_was_watched_before_it():
    model, opt = fresh()
    x, y = data()
    opt.watch(loss_of(model, x[:4], y[:4])).div(2).backward()

    def closure():
        loss = loss_of(model, x[4:], y[4:])
        opt.watch(loss).div(2).backward()
        return loss  # the last micro-loss alone: the watched mean wins

    opt.step(closure)
    check_equal(model, reference(steps=1))


def test_a_watched_loss_wins_over_the_closure():
    model, opt = fresh()

    def closure():
        opt.zero_grad()
        loss = opt.watch(loss_of(model, *data()))
        loss.backward()
        return 100.0 * loss.detach()

    for _ in range(3):
        opt.step(closure)
    check_equal(model, reference())


def test_step_and_zero_grad_clear_what_was_watched():
    model, opt = fresh()
    opt.watch(loss_of(model, *data())).backward()
    opt.zero_grad()
    with pytest.raises(ValueError, match="no loss"):
        opt.step()
    opt.watch(loss_of(model, *data())).backward()
    opt.step()
    with pytest.raises(ValueError, match="no loss"):
        opt.step()


def test_a_loss_that_comes_twice_is_refused():
    model, opt = fresh()
    loss = loss_of(model, *data())
    opt.watch(loss).backward()
    with pytest.raises(ValueError, match="must come once"):
        opt.step(loss=loss)
    with pytest.raises(ValueError, match="must come once"):
        opt.step(lambda: 1.0, loss=loss)
    opt.attach(model)
    with pytest.raises(ValueError, match="watched already"):
        opt.watch(model(*data()).loss)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (torch.ones(2), "one real number"),
        (torch.ones((), dtype=torch.complex64), "one real number"),
        ("0.5", "got str"),
    ],
)
def test_what_is_no_loss_is_refused(loss, message: str):
    model, opt = fresh()
    loss_of(model, *data()).backward()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=message):
        opt.step(loss=loss)
    check_equal(model, before)
    with pytest.raises(ValueError, match="pass a loss as step"):
        opt.step(torch.tensor(1.0))
    with pytest.raises(ValueError, match="no loss"):
        opt.step(lambda: None)
    with pytest.raises(ValueError, match="loss must be a tensor, got float"):
        opt.watch(0.5)


def test_gradients_that_wait_for_a_step_can_be_copied_and_saved(tmp_path):
    model, opt = fresh()
    opt.watch(loss_of(model, *data())).backward()
    torch.save(model, tmp_path / "model.pt")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        loss_of(twin, *data()).backward()
    copy.deepcopy(opt).zero_grad()
    opt.step()
    check_equal(model, reference(steps=1))


def test_an_optimizer_leaves_no_hook_behind():
    model, opt = fresh()
    opt.watch(loss_of(model, *data())).backward()
    hooks = [p._backward_hooks for p in model.parameters()]
    assert sum(map(len, filter(None, hooks))) == 2
    del opt
    gc.collect()
    assert not any(hooks)


def test_copies_of_an_attached_model_do_not_report_to_the_optimizer():
    model, opt = fresh()
    opt.attach(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin(*data()).loss.backward()
        with pytest.raises(ValueError, match="no loss"):
            opt.step()


def test_watching_keeps_no_graph_alive():
    model, opt = fresh()
    loss = opt.watch(loss_of(model, *data()))
    loss.backward()
    alive = weakref.ref(loss)
    del loss
    gc.collect()
    assert alive() is None
    opt.step()


def test_an_attached_model_does_not_keep_the_optimizer_alive():
    model, opt = fresh()
    opt.attach(model)
    loss = model(*data()).loss
    alive = weakref.ref(opt)
    del opt
    gc.collect()
    assert alive() is None
    loss.backward()  # and a loss outliving it is harmless


def test_a_loss_changed_in_place_after_watch_is_counted_as_it_was():
    model, opt = fresh()
    x, y = data()
    for rows in (slice(0, 4), slice(4, 8)):
        loss = opt.watch(loss_of(model, x[rows], y[rows]))
        loss /= 2
        loss.backward()
    opt.step()
    check_equal(model, reference(steps=1))


def test_a_watched_loss_can_be_saved(tmp_path):
    model, opt = fresh()
    loss = opt.watch(loss_of(model, *data()))
    torch.save({"loss": loss}, tmp_path / "loss.pt")
    assert torch.load(tmp_path / "loss.pt", weights_only=True)["loss"].item() == loss.item()


def test_state_may_be_loaded_between_watch_and_backward():
    model, opt = fresh()
    loss = opt.watch(loss_of(model, *data()))
    opt.load_state_dict(opt.state_dict())
    loss.backward()
    opt.step()
    check_equal(model, reference(steps=1))


@pytest.mark.parametrize("output", [torch.ones(1, 1), torch.ones(3), (torch.ones(1),), (), None])
def test_a_prediction_is_not_taken_for_a_loss(output):
    for t in output if isinstance(output, tuple) else (output,):
        if t is not None:
            t.requires_grad_()
    assert find_loss(output) is None


def test_a_loss_is_found_wherever_it_is_named():
    from collections import namedtuple

    loss = torch.ones((), requires_grad=True)
    assert find_loss(namedtuple("Output", "logits loss")(torch.ones(2), loss)) is loss
    one = torch.ones(1, requires_grad=True)
    assert find_loss({"loss": one}) is one
    assert find_loss({"loss": loss.detach()}) is None

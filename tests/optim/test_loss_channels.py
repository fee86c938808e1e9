"""All the ways to hand over the loss give the same step."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from corridor import CLR, measure
from corridor.optim import DAL
from corridor.optim._loss import find_loss


class Regression(nn.Module):
    """Returns its loss the way the model hubs do."""

    def __init__(self, form: str = "object") -> None:
        super().__init__()
        self.layer, self.form = nn.Linear(3, 2, dtype=torch.float64), form

    def forward(self, x, y=None):
        out = self.layer(x)
        loss = None if y is None else (out - y).square().mean()
        if self.form == "scalar":
            return loss
        if self.form == "tuple":
            return (loss, out)
        fields = {"loss": loss, "logits": out}
        return fields if self.form == "dict" else SimpleNamespace(**fields)


def data(n: int = 8):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return x, x[:, :2] + 0.5


def loss_of(model: Regression, x, y):
    return (model.layer(x) - y).square().mean()


def fresh(form: str = "object", **options) -> tuple[Regression, CLR]:
    torch.manual_seed(1)
    model = Regression(form)
    return model, CLR(model.parameters(), max_lr=float("inf"), **options)


def reference(steps: int = 3, **options) -> list[torch.Tensor]:
    model, opt = fresh(**options)
    for _ in range(steps):
        opt.zero_grad()
        loss = loss_of(model, *data())
        loss.backward()
        assert opt.step(loss=loss) is loss
    return [p.detach() for p in model.parameters()]


def check_equal(model: Regression, expected: list[torch.Tensor]) -> None:
    for p, q in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-10, atol=1e-12)


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
    with pytest.raises(ValueError, match="give the optimizer the parameters that the loss"):
        opt.step()


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
    hooks = [p._post_accumulate_grad_hooks for p in model.parameters()]
    assert sum(map(len, filter(None, hooks))) == 1
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


CLEARED = {
    "zero_grad": lambda model: model.zero_grad(),
    "zero_grad in place": lambda model: model.zero_grad(set_to_none=False),
    "None": lambda model: [setattr(p, "grad", None) for p in model.parameters()],
    "zeros": lambda model: [setattr(p, "grad", torch.zeros_like(p)) for p in model.parameters()],
    "zero_": lambda model: [p.grad.zero_() for p in model.parameters()],
    "data": lambda model: [p.grad.data.zero_() for p in model.parameters()],
}


@pytest.mark.parametrize("channel", ["watch", "attach"])
@pytest.mark.parametrize("factor", [3.0, float("nan")])
@pytest.mark.parametrize("clear", CLEARED.values(), ids=CLEARED)
def test_a_loss_is_forgotten_with_its_gradient(clear, factor: float, channel: str):
    """The batches given up before each step, one of them two micro-batches, count for nothing."""
    model, opt = fresh("scalar")
    x, y = data()
    if channel == "attach":
        opt.attach(model)
    watch = opt.watch if channel == "watch" else lambda loss: loss
    for _ in range(3):
        for parts in (1, 2):
            for _ in range(parts):
                watch(model(factor * x, y)).backward()
            clear(model)
        watch(model(x, y)).backward()
        opt.step()
        opt.zero_grad()
    check_equal(model, reference())


def test_without_its_gradient_a_watched_loss_makes_no_step():
    model, opt = fresh()
    for refill in (False, True):
        opt.watch(3.0 * loss_of(model, *data())).backward()
        model.zero_grad()
        if refill:  # by a pass that nobody watches
            loss_of(model, *data()).backward()
        with pytest.raises(ValueError, match="no loss"):
            opt.step()
        model.zero_grad()


@pytest.mark.parametrize("by", ["loss", "closure"])
def test_another_loss_may_follow_one_whose_gradient_was_cleared(by: str):
    model, opt = fresh()

    def closure():
        model.zero_grad()
        loss = loss_of(model, *data())
        loss.backward()
        return loss

    for _ in range(3):
        model.zero_grad()
        opt.watch(3.0 * loss_of(model, *data())).backward()
        if by == "loss":
            opt.step(loss=closure())
        else:
            opt.step(closure)
    check_equal(model, reference())


@pytest.mark.parametrize("change", ["clip", "copy", "create_graph"])
def test_a_gradient_that_was_changed_still_belongs_to_its_loss(change: str):
    model, opt = fresh()
    x, y = data()
    for _ in range(3):
        opt.zero_grad()
        for rows in (slice(0, 4), slice(4, 8)):
            loss = opt.watch(loss_of(model, x[rows], y[rows])) / 2
            loss.backward(create_graph=change == "create_graph")
            if change == "clip":
                nn.utils.clip_grad_norm_(model.parameters(), 1e9)
            for p in model.parameters():
                p.grad = p.grad if change == "clip" else p.grad.detach().clone()
        opt.step()
    check_equal(model, reference())


def test_a_flat_micro_batch_counts():
    """Its gradient is 0 by itself, and nobody has cleared it."""
    model, opt = fresh()
    x, y = data()
    (opt.watch(0.0 * model.layer.weight.sum() + 4.0) / 2).backward()
    (opt.watch(loss_of(model, x, y)) / 2).backward()
    opt.step()
    other, by_hand = fresh()
    ((loss := loss_of(other, x, y)) / 2).backward()
    by_hand.step(loss=2.0 + loss.detach() / 2)
    check_equal(model, list(other.parameters()))


class SAM:
    """Climb, clear the gradients, differentiate again, go back, and step, as SAM wrappers do."""

    def __init__(self, opt: CLR) -> None:
        self.opt = opt
        self.params = opt.param_groups[0]["params"]

    @torch.no_grad()
    def climb(self) -> None:
        norm = torch.stack([p.grad.norm() for p in self.params]).norm()
        self.moves = [0.05 * p.grad / norm for p in self.params]
        for p, move in zip(self.params, self.moves, strict=True):
            p.add_(move)
            p.grad = None

    @torch.no_grad()
    def step(self, **given) -> None:
        for p, move in zip(self.params, self.moves, strict=True):
            p.sub_(move)
        self.opt.step(**given)
        for p in self.params:
            p.grad = None


@pytest.mark.parametrize("channel", ["watch", "attach"])
def test_sam_steps_by_the_loss_of_its_second_pass(channel: str):
    models = []
    for way in (channel, "loss"):
        model, opt = fresh("scalar")
        models.append(model)
        sam = SAM(opt)
        if way == "attach":
            opt.attach(model)
        for _ in range(3):
            for second in (False, True):
                loss = model(*data())
                (opt.watch(loss) if way == "watch" else loss).backward()
                if not second:
                    sam.climb()
            sam.step(**({"loss": loss} if way == "loss" else {}))
    check_equal(models[0], list(models[1].parameters()))


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

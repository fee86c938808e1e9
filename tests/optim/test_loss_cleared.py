"""A watched loss is forgotten with its gradient, no matter how that is cleared."""

from __future__ import annotations

import pytest
import torch
from tests.optim.regression import check_equal, data, fresh, loss_of, reference
from torch import nn

from corridor import CLR, CLRAdam
from corridor.optim import DAL, MoMoAdam
from corridor.optim._loss import Watched

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


IN_PLACE = {name: CLEARED[name] for name in ("zero_grad in place", "zero_", "data", "None")}
STEPS = {
    "CLR": lambda p: CLR(p, max_lr=float("inf")),
    "momentum": lambda p: CLR(p, max_lr=float("inf"), momentum=0.9),
    "MoMoAdam": lambda p: MoMoAdam(p, max_lr=float("inf")),
    "drift": lambda p: CLR(p, drift=1.0),
}


@pytest.mark.parametrize("then", ["unwatched", "a flat bias", "penalty", "loss=", "closure"])
@pytest.mark.parametrize("make", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("clear", IN_PLACE.values(), ids=IN_PLACE)
def test_a_discarded_loss_is_in_no_step(clear, make, then: str):
    """Cleared, then differentiated by a pass that nobody watches."""
    if make is STEPS["drift"] and then in ("loss=", "closure"):
        pytest.skip("such a step needs the graph of its loss")
    (model, _), (twin, _) = fresh(), fresh()
    opt, by_hand = make(model.parameters()), make(twin.parameters())
    x, y = data()
    if then == "a flat bias":  # the smallest gradient is 0 by itself
        opt.watch(1e3 * model.layer.weight.square().sum() + 0.0 * model.layer.bias.sum()).backward()
    else:
        opt.watch(1e3 * loss_of(model, x, y)).backward()
    clear(model)

    def closure():
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    if then in ("unwatched", "a flat bias"):
        closure()
        with pytest.raises(ValueError, match="no loss"):
            opt.step()
        return
    if then == "penalty":  # in a pass of its own, and to the weights alone
        model.layer.weight.square().sum().backward()
        twin.layer.weight.square().sum().backward()
        opt.watch(loss_of(model, x, y)).backward()
        opt.step()
    elif then == "closure":
        opt.step(closure)
    else:
        opt.step(loss=closure())
    by_hand.watch(loss_of(twin, x, y)).backward()
    by_hand.step()
    check_equal(model, list(twin.parameters()))


def test_gradients_that_are_put_aside_and_back_keep_their_loss():
    model, opt = fresh()
    opt.watch(loss_of(model, *data())).backward()
    aside = [p.grad for p in model.parameters()]
    for p in model.parameters():
        p.grad = None
    loss_of(model, *data()).backward()
    for p, g in zip(model.parameters(), aside, strict=True):
        p.grad = g
    opt.step()
    check_equal(model, reference(steps=1))


def test_biases_frozen_by_hand_do_not_take_the_loss_along():
    model, opt = fresh()
    opt.watch(loss_of(model, *data())).backward()
    model.layer.bias.grad.zero_()
    (0.0 * model.layer.weight.sum()).backward()
    opt.step()
    assert float(opt.param_groups[0]["effective_lr"]) > 0.0


def test_a_verdict_of_the_device_makes_the_loss_0():
    """Where it cannot be read without waiting, loss and weight become 0."""
    one = torch.ones(())
    for lost in (True, False):
        kept = Watched(2.0 * one, one, None, {}, []).unless(torch.tensor(lost))
        assert [float(kept.loss), float(kept.weight)] == [2.0 * (not lost), 1.0 * (not lost)]


@pytest.mark.parametrize("make", [DAL, lambda p: CLR(p, drift=1.0), CLRAdam])
@pytest.mark.parametrize("order", ["clear first", "watch first"])
def test_the_curvature_of_a_discarded_loss_limits_nothing(make, order: str):
    x = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    opt = make([x])
    opt.watch(1e3 * x.square().sum()).backward()  # a ratio of 2000
    if order == "watch first":
        loss = opt.watch(x.square().sum())
        x.grad.zero_()
    else:
        x.grad.zero_()
        loss = opt.watch(x.square().sum())
    loss.backward()
    opt.step()
    if order == "watch first":  # it was not measured: the next loss is
        assert float(opt.param_groups[0]["effective_lr"]) == 0.0
        opt.zero_grad()
        opt.watch(x.square().sum()).backward()
        opt.step()
    fresh_one = make([nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))])
    (twin,) = fresh_one.param_groups[0]["params"]
    fresh_one.watch(twin.square().sum()).backward()
    fresh_one.step()
    ratios = [float(one.param_groups[0]["hessian_ratio"]) for one in (opt, fresh_one)]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-6)
    assert float(opt.param_groups[0]["effective_lr"]) > 0.0


def test_a_hook_that_clears_a_gradient_is_told():
    model, opt = fresh()
    loss_of(model, *data()).backward()
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    opt.watch(loss_of(model, *data())).backward()
    with pytest.raises(ValueError, match=r"changed no .grad.*let no hook clear a .grad"):
        opt.step()


def by_loss(params: list[nn.Parameter], loss: float) -> list[torch.Tensor]:
    """Return copies of the parameters after the step of a given loss along their gradients."""
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    for p, q in zip(params, copies, strict=True):
        q.grad = None if p.grad is None else p.grad.clone()
    CLR(copies, max_lr=float("inf")).step(loss=loss)
    return copies


@pytest.mark.parametrize("clear", IN_PLACE.values(), ids=IN_PLACE)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=str)
def test_each_of_several_losses_is_forgotten_with_its_own_gradient(clear, order):
    """Three heads are watched in turn, and one of them is cleared at the end."""
    torch.manual_seed(0)
    heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
    params = list(heads.parameters())
    opt, x = CLR(params, max_lr=float("inf")), torch.randn(5, 4)
    losses = {}
    for k in order:
        losses[k] = opt.watch((heads[k](x) - 3.0**k).square().mean())
        losses[k].backward()
    clear(heads[1])
    expected = by_loss(params, float((losses[0] + losses[2]).detach()))
    opt.step()
    check_equal(heads, expected)


@pytest.mark.parametrize("shape", [(500, 64), (50_000, 8)], ids=str)
@pytest.mark.parametrize("clear", IN_PLACE.values(), ids=IN_PLACE)
def test_a_loss_of_a_few_rows_is_forgotten_with_them(clear, shape):
    table = nn.Embedding(*shape)
    params, rows = list(table.parameters()), torch.tensor([shape[0] - 77])
    opt = CLR(params, max_lr=float("inf"))
    opt.watch((table(rows) - 3.0).square().mean()).backward()
    clear(table)
    loss = opt.watch((table(rows) - 1.0).square().mean())
    loss.backward()
    expected = by_loss(params, float(loss.detach()))
    opt.step()
    check_equal(table, expected)


def zero(params) -> None:
    for p in params:
        p.grad.zero_()


MASKS = {
    "all but the last rows": lambda m: [p.grad[:-1].zero_() for p in m.parameters()],
    "all but the head": lambda m: zero(m[:7].parameters()),
    "all but the middle": lambda m: zero([*m[:3].parameters(), *m[4:].parameters()]),
    "all but the biases": lambda m: zero(layer.weight for layer in m),
    "the backbone to None": lambda m: [setattr(p, "grad", None) for p in m[:7].parameters()],
    "all but the middle, None": lambda m: [
        setattr(p, "grad", None) for layer in (*m[:3], *m[4:]) for p in layer.parameters()
    ],
}


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_a_gradient_that_is_cleared_in_part_holds_its_loss(mask, passes: int):
    """In each of the micro-batches, or in the only one."""
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(4, 4).double() for _ in range(8)])
    params = list(model.parameters())
    opt, total = CLR(params, max_lr=float("inf")), 0.0
    for _ in range(passes):
        loss = opt.watch((model(torch.randn(8, 4).double()) - 1.0).square().mean())
        (loss / passes).backward()
        mask(model)
        total += float(loss.detach()) / passes
    expected = by_loss(params, total)
    opt.step()
    check_equal(model, expected)


CLEARED_TASKS = {
    "opt": lambda opt, x: opt.zero_grad(),
    "opt in place": lambda opt, x: opt.zero_grad(set_to_none=False),
    "None": lambda opt, x: setattr(x, "grad", None),
    "zero_": lambda opt, x: None if x.grad is None else x.grad.zero_(),
}


@pytest.mark.parametrize("given", [False, True], ids=["watched", "loss="])
@pytest.mark.parametrize("clear", CLEARED_TASKS.values(), ids=CLEARED_TASKS)
def test_a_gradient_made_of_several_passes_has_no_watched_loss(clear, given: bool):
    """As in PCGrad. The loss of the last pass alone must not count for it."""
    x = nn.Parameter(torch.tensor([1.0, 2.0]))
    opt, gradients = CLR([x], max_lr=float("inf")), []
    tasks = [10.0 * (x[0] - 3.0).square() + 1.0, 0.1 * (x[1] + x[0]).square()]
    for task in tasks:
        clear(opt, x)
        opt.watch(task).backward()
        gradients.append(x.grad.clone())
    x.grad = sum(gradients)
    if given:
        expected = by_loss([x], float(sum(tasks).detach()))
        opt.step(loss=sum(tasks))
        assert torch.equal(x, expected[0])
    else:
        with pytest.raises(ValueError, match="no loss reached"):
            opt.step()
        assert x.tolist() == [1.0, 2.0]
    opt.zero_grad()
    opt.watch(x.square().sum()).backward()  # nothing is left of it in the next step
    x.grad = x.grad.clone()
    opt.step()

"""Check that a model is bit for bit the same before and after an evaluation."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from tests.geometry import oracle
from tests.geometry.networks import MODELS, Case, case
from torch import nn

import corridor
from corridor.geometry import jet, measure, measure_dataset, sharpness


def state(small: Case) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in small.model.state_dict().items()}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_buffers_random_state_modes_and_grads_stay(name: str):
    small = case(name)
    small.closure().backward()
    grads = [p.grad for p in small.model.parameters()]
    values = [g.clone() for g in grads if g is not None]
    before, random_before, python = state(small), torch.get_rng_state(), random.getstate()
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    modes = [m.training for m in small.model.modules()]

    def closure() -> torch.Tensor:
        random.random()
        np.random.rand()  # noqa: NPY002
        return small.closure()

    jet(closure, small.model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in state(small).items())
    assert torch.equal(torch.get_rng_state(), random_before)
    assert random.getstate() == python
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert [m.training for m in small.model.modules()] == modes
    assert [p.grad for p in small.model.parameters()] == grads  # the very same tensors
    kept = [g for g in grads if g is not None]
    assert all(torch.equal(g, v) for g, v in zip(kept, values, strict=True))


def test_a_module_that_changes_its_mode_or_replaces_a_buffer_is_put_back():
    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self) -> torch.Tensor:
            self.calls = self.calls + 1
            self.eval()
            return (self.weight**3).sum()

    model = Restless()
    calls = model.calls
    jet(lambda: model(), model)
    assert model.calls is calls
    assert model.training


class Short(nn.Module):
    """Shorten rows of the embedding in each forward pass, and share them with the last layer."""

    def __init__(self, *, tied: bool = False, frozen: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rows = nn.Embedding(7, 4, max_norm=0.7)
        self.last = nn.Linear(4, 7)
        self.rows.weight.requires_grad_(not frozen)
        if tied:
            self.last.weight = self.rows.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.rows(words)))


WORDS, NEXT = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 5, 6, 3])


@pytest.mark.parametrize("kind", ["own", "tied", "frozen"])
def test_weights_that_a_forward_pass_rewrites_are_put_back_and_measured_as_rewritten(kind: str):
    model = Short(tied=kind == "tied", frozen=kind == "frozen").double()
    before = {name: p.clone() for name, p in model.state_dict().items()}

    def closure() -> torch.Tensor:
        return nn.functional.cross_entropy(model(WORDS), NEXT)

    def unchanged() -> bool:
        return all(torch.equal(p, before[name]) for name, p in model.state_dict().items())

    products = []
    for engine in ("double_backward", "central_differences"):
        found = jet(closure, model, engine=engine, check=True)
        assert found.checked is not None
        assert found.checked.verdict == "right"
        products.append(oracle.flat(found.hessian_gradient))
        assert unchanged()
    assert torch.allclose(*products, rtol=oracle.differencing(), atol=oracle.differencing())
    assert math.isfinite(sharpness(closure, list(model.last.parameters())).value)
    pairs = [(WORDS, NEXT), (WORDS[:2], NEXT[:2])]
    measure_dataset(model, nn.functional.cross_entropy, pairs, step=0.1)
    over_step = measure(closure, model, step=0.5).secant
    assert unchanged()
    opt = torch.optim.SGD(model.parameters(), lr=0.5)
    closure().backward()
    opt.step()
    assert over_step is not None
    assert float(over_step.next_loss) == pytest.approx(closure().item(), rel=1e-12)


def test_a_closure_that_writes_to_its_parameters_or_replaces_their_memory_leaves_them():
    w = nn.Parameter(torch.tensor([1.0, 2.0]))

    def clamped() -> torch.Tensor:
        with torch.no_grad():
            w.clamp_(max=1.5)
        return (w**3).sum()

    def binary() -> torch.Tensor:
        w.data = 0.5 * w.data.sign()
        return (w**3).sum()

    for closure, expected in ((clamped, [18.0, 60.75]), (binary, [2.25, 2.25])):
        assert jet(closure, [w]).hessian_gradient[0].tolist() == expected  # 18 w^3
        assert w.tolist() == [1.0, 2.0]


def test_hooks_see_the_model_and_no_hook_is_left():
    from torch.nn.modules import module

    model = nn.Linear(2, 1)
    seen = []
    model.register_forward_hook(lambda *_: seen.append(1))
    left = len(module._global_forward_pre_hooks)
    with pytest.raises(ZeroDivisionError):
        jet(lambda: model(torch.ones(1, 2)).sum() * (1 / 0), model)
    jet(lambda: model(torch.ones(1, 2)).square().sum(), model)
    assert seen == [1, 1]
    assert len(module._global_forward_pre_hooks) == left


def test_an_attached_optimizer_does_not_count_the_measurement():
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x).square().mean()

    whole = Whole()
    opt = corridor.CLR(whole.parameters())
    opt.attach(whole)
    x = torch.ones(3, 2)
    jet(lambda: whole(x), whole)
    loss = whole(x)
    loss.backward()
    opt.step()
    size = loss.item() / sum(float(p.grad.square().sum()) for p in whole.parameters())
    assert float(opt.param_groups[0]["effective_lr"]) == pytest.approx(min(size, 1.0))


def test_a_graph_made_before_gives_the_gradient_it_would_have_given():
    ends = []
    for measured in (False, True):
        small = case("batch norm, evaluation")
        loss = small.closure()
        if measured:
            jet(small.closure, small.model)
        loss.backward()
        ends.append([p.grad for p in small.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_jet_works_under_no_grad():
    small = case("mlp gelu")
    with torch.no_grad():
        inside = jet(small.closure, small.model)
    outside = jet(small.closure, small.model)
    for a, b in zip(inside.hessian_gradient, outside.hessian_gradient, strict=True):
        assert torch.equal(a, b)


def test_no_memory_is_held_afterwards():
    import gc
    import weakref

    small = case("mlp gelu")
    alive = []

    def closure() -> torch.Tensor:
        hidden = small.model[0](small.inputs)
        alive.append(weakref.ref(hidden))
        return small.model[2](small.model[1](hidden)).square().mean()

    gc.disable()
    try:
        jet(closure, small.model)
        assert alive[0]() is None  # no reference cycle keeps the graph
    finally:
        gc.enable()


class Centered(nn.Module):
    """Move a buffer in a method that is not forward."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2).double()
        self.register_buffer("center", torch.zeros(2, dtype=torch.float64))

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        self.center.mul_(0.9).add_(y.detach().mean(0), alpha=0.1)
        return (y - self.center).square().mean()

    forward = loss


def test_a_module_is_restored_if_the_closure_calls_another_method():
    x = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).view(4, 3)
    model = Centered()
    expected = measure(lambda: model(x), model, step=0.1).as_dict()
    assert measure(lambda: model.loss(x), model, step=0.1).as_dict() == expected
    probe = corridor.Probe(model, step=0.1)
    probe(lambda: model.loss(x))
    assert probe.measures is not None
    assert probe.measures.as_dict() == expected
    sharpness(lambda: model.loss(x), model)
    measure_dataset(model, None, [x, x[:2]], batch_loss=lambda model, x: model.loss(x), step=0.1)
    assert not model.center.any()


def test_a_closure_that_sets_the_mode_leaves_it():
    model = nn.Sequential(nn.Linear(3, 1), nn.Dropout())

    def closure() -> torch.Tensor:
        model.eval()
        return model(torch.ones(2, 3)).square().mean()

    jet(closure, model)
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize("given", ["module", "list"])
@pytest.mark.parametrize("training", [True, False])
def test_buffers_of_a_functional_call_stay_apart_from_those_of_the_module(
    given: str, training: bool
):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)).train(training)
    own = dict(model.named_buffers())
    others = {name: b + 3 for name, b in own.items()}
    before = {name: b.clone() for name, b in (*own.items(),)}
    x = torch.ones(2, 4).cumsum(0)

    def closure() -> torch.Tensor:
        tensors = {**dict(model.named_parameters()), **others}
        return torch.func.functional_call(model, tensors, (x,)).square().mean()

    params = model if given == "module" else list(model.parameters())
    measure(closure, params, step=0.1)
    for name, buffer in model.named_buffers():
        assert buffer is own[name]
        assert torch.equal(buffer, before[name])
        assert torch.equal(others[name], before[name] + 3)


def test_a_functional_call_of_a_module_that_replaces_its_buffer_leaves_the_module():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self) -> torch.Tensor:
            self.calls = self.calls + 1
            return (self.weight**3).sum()

    model = Counting()
    calls, other = model.calls, torch.ones(())
    measure(lambda: torch.func.functional_call(model, {"calls": other}, ()), [model.weight])
    assert model.calls is calls
    measure(lambda: model(), [model.weight])  # a list does not name the module
    assert model.calls is calls

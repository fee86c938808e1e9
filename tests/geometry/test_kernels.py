"""Refuse functions whose second derivative is missing or wrong, and trust those that are right."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from tests.geometry import oracle
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from corridor.geometry import Probe, _kernels, jet, measure, measure_dataset, sharpness
from corridor.geometry.graph import from_graph

ROUGH = oracle.differencing()


class Sine(Function):
    """Compute sin(x) with a right second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0].cos()


class Once(Sine):
    """Refuse a second derivative, which autograd does not reach."""

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0].cos()


class Saved(Sine):
    """Save cos(x) without its graph, so that a second derivative lacks a term."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.cos())
        return x.sin()

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0]


class Kernel(Sine):
    """Compute the backward pass outside of autograd."""

    @staticmethod
    def backward(ctx, dy):
        return (dy.detach() * ctx.saved_tensors[0].detach().cos()).clone()


class Kinked(Function):
    """Compute relu(x) and save its mask, which changes at 0 only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward((x > 0).to(x))
        return x.relu()

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0]


@torch.library.custom_op("corridor_tests::sine", mutates_args=())
def operator(x: Tensor) -> Tensor:
    return x.sin()


def _keep(ctx, inputs, output) -> None:
    ctx.x = inputs[0].detach()


operator.register_autograd(lambda ctx, dy: dy * ctx.x.cos(), setup_context=_keep)


def hooked(x: Tensor) -> Tensor:
    """Lose the graph of one of two gradients that flow into x."""
    y = x.sin()
    y.register_hook(lambda dy: dy.detach())
    return y * 1.0 + 0.1 * x


WRONG = {
    "once": Once.apply,
    "saved": Saved.apply,
    "kernel": Kernel.apply,
    "operator": operator,
    "hook": hooked,
}


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch):
    monkeypatch.setattr(_kernels, "compared", {})


def network(
    function: Callable, dtype: torch.dtype = torch.float64, act: Callable = torch.tanh
) -> tuple[nn.Module, Callable[[], Tensor]]:
    torch.manual_seed(0)
    first, last = nn.Linear(4, 16, dtype=dtype), nn.Linear(16, 3, dtype=dtype)
    x, y = torch.randn(64, 4, dtype=dtype), torch.randint(3, (64,))
    model = nn.ModuleList([first, last])
    return model, lambda: nn.functional.cross_entropy(act(last(function(act(first(x))))), y)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_second_derivative_is_refused_and_auto_takes_differences(name: str):
    model, closure = network(WRONG[name])
    right, same = network((lambda x: x.sin() + 0.1 * x) if name == "hook" else torch.sin)
    expected = oracle.flat(jet(same, right).hessian_gradient)
    found = jet(closure, model)
    assert found.engine.name == "central_differences"
    assert oracle.relative_error(found.hessian_gradient, expected) < ROUGH
    for engine in ("double_backward", "forward_over_reverse"):
        with pytest.raises(ValueError, match="engine='auto'"):
            jet(closure, model, engine=engine)
    with pytest.raises(ValueError, match="no products with its Hessian"):
        sharpness(closure, model)
    with pytest.raises(ValueError, match="cannot be differentiated twice"):
        measure_dataset(model, None, [torch.ones(2)] * 2, batch_loss=lambda model, batch: closure())


@pytest.mark.parametrize("name", ["once", "kernel", "hook"])
def test_a_graph_alone_shows_what_loses_the_graph(name: str):
    model, closure = network(WRONG[name])
    with pytest.raises(ValueError, match=r"torch's operations, without (this mark|detach)"):
        from_graph(closure(), list(model.parameters()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("function", [Sine.apply, Kinked.apply])
def test_right_functions_and_kinks_raise_no_alarm(function: Callable, dtype: torch.dtype):
    model, closure = network(function, dtype, torch.relu)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jet(closure, model).engine.name == "double_backward"


def test_a_hook_that_clips_is_no_lost_graph():
    """The vector field of the steps is the clipped gradient, and Hg is its derivative along it."""
    x = nn.Parameter(torch.tensor([1.0, 3.0], dtype=torch.float64))
    x.register_hook(lambda g: g.clamp(max=4.0))
    found = from_graph(x.square().sum(), [x])
    assert found.product[0].tolist() == [4.0, 0.0]
    product = jet(lambda: x.square().sum(), [x]).hessian_gradient[0]
    assert product.tolist() == pytest.approx([4.0, 0.0], abs=ROUGH)


def test_the_comparison_is_made_once_and_can_be_left_out():
    calls = []
    model, closure = network(Sine.apply)

    def counted() -> Tensor:
        calls.append(1)
        return closure()

    probe = Probe(model, every=1)
    counts = []
    for _ in range(3):
        calls.clear()
        probe(counted)
        counts.append(len(calls))
    assert counts == [4, 1, 1]
    for check in (None, False):
        model, closure = network(Saved.apply)
        engine = measure(closure, model, check=check).engine.name
        assert engine == ("double_backward" if check is False else "central_differences")


def test_differences_across_kinks_say_that_they_are_uncertain():
    model, closure = network(Once.apply, torch.float32, torch.relu)
    with pytest.warns(UserWarning, match="central differences is uncertain"):
        found = jet(closure, model)
    assert "disagree" in found.engine.why


def test_a_lost_graph_is_seen_after_another_loss_of_the_parameters():
    x = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    jet(lambda: (x**3).sum(), [x], engine="forward_over_reverse")
    found = jet(lambda: (x**3).sum() + hooked(x).sum(), [x])
    assert found.engine.name == "central_differences"
    with pytest.raises(ValueError, match="without their graph"):
        jet(lambda: (x**3).sum() + hooked(x).sum(), [x], engine="forward_over_reverse")


def test_a_function_inside_a_checkpoint_is_compared_at_the_moved_parameters():
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 4, dtype=torch.float64), torch.randn(8, 4, dtype=torch.float64)

    def closure() -> Tensor:
        inside = checkpoint(lambda y: Sine.apply(layer(y)), x, use_reentrant=False)
        return inside.square().mean()

    assert jet(closure, layer).engine.name == "double_backward"

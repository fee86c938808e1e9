"""Compare Hg of all kinds of layers with differences, by every engine, and test the choice."""

from __future__ import annotations

import warnings

import pytest
import torch
from tests.geometry import oracle
from tests.geometry.networks import MODELS, case
from torch import nn

from corridor.geometry import _kernels, jet, measure

SINGLE = oracle.rounding(1e4, torch.float32)
ROUGH, ROUGH_SINGLE = oracle.differencing(), oracle.differencing(torch.float32)


def hg(small, engine: str, **options) -> torch.Tensor:
    torch.manual_seed(0)
    found = jet(small.closure, small.model.parameters(), engine=engine, **options)
    return oracle.flat(found.hessian_gradient)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


# The differences must cross no kink, and stay where their order shows.
LENGTHS = {"mlp relu": 2e-5, "batch norm, in-place relu": 2e-5, "max pool": 2e-5}
LENGTHS |= {"instance norm": 5e-4}


@pytest.mark.parametrize("name", MODELS)
def test_hg_agrees_with_differences_of_order_eight(name: str):
    small, length = case(name), LENGTHS.get(name, 3e-3)
    twin = small.double()
    params, buffers = list(twin.model.parameters()), list(twin.model.buffers())
    again = twin.copy()  # its buffers may move
    g = oracle.gradient(again.closure, list(again.model.parameters()))
    expected = oracle.flat(oracle.product(twin.closure, params, g, length=length, buffers=buffers))
    torch.manual_seed(0)
    wide = jet(twin.closure, params)
    assert oracle.relative_error(wide.gradient, oracle.flat(g)) < oracle.rounding(1e4)
    assert oracle.relative_error(wide.hessian_gradient, expected) < oracle.rounding(1e4) / length
    torch.manual_seed(0)
    narrow = jet(small.closure, small.model.parameters())
    assert oracle.relative_error(narrow.hessian_gradient, expected) < SINGLE
    assert [h.dtype for h in narrow.hessian_gradient] == [torch.float32] * len(params)


@pytest.mark.parametrize("name", MODELS)
def test_the_engines_agree(name: str):
    small, twin = case(name), case(name).double()
    exact = hg(twin, "double_backward")
    assert distance(hg(twin, "forward_over_reverse"), exact) < oracle.rounding(1e4)
    assert distance(hg(twin, "central_differences"), exact) < ROUGH
    if name != "lstm":  # its float32 kernel has no forward derivative
        assert distance(hg(small, "forward_over_reverse").double(), exact) < SINGLE
    rough = distance(hg(small, "central_differences").double(), exact)
    assert rough < ROUGH_SINGLE


@pytest.mark.parametrize("name", ["batch norm", "dropout", "attention", "weight norm"])
@pytest.mark.parametrize("engine", ["forward_over_reverse", "central_differences"])
def test_every_engine_leaves_the_model_as_it_was(name: str, engine: str):
    small = case(name)
    before = {k: v.clone() for k, v in small.model.state_dict().items()}
    loss = small.closure()  # its graph is to stay usable
    before |= {k: v.clone() for k, v in small.model.named_buffers()}
    jet(small.closure, small.model, engine=engine, check=True)
    assert all(torch.equal(v, before[k]) for k, v in small.model.state_dict().items())
    assert all(p.grad is None for p in small.model.parameters())
    if name != "batch norm":  # torch itself objects to a second pass before the first's backward
        loss.backward()


def test_under_autocast_the_steps_are_as_long_as_its_rounding_asks():
    small = case("mlp gelu")
    exact = hg(small, "double_backward")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = hg(small, "central_differences")
        secant = measure(small.closure, small.model, step=0.1).secant
    assert distance(found, exact) < 0.1
    assert secant is not None
    assert float(secant.smoothness) == pytest.approx(1.0, abs=0.1)  # no stale copies of weights


def bag() -> tuple[nn.Module, object]:
    model = nn.Sequential(nn.EmbeddingBag(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    tokens = torch.tensor([[0, 1, 2], [3, 4, 0], [5, 5, 1]])
    return model, lambda: nn.functional.cross_entropy(model(tokens), torch.tensor([0, 1, 2]))


def ctc() -> tuple[nn.Module, object]:
    model = nn.Linear(4, 5).double()
    x = torch.randn(7, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets, lengths = torch.tensor([[1, 2, 3], [4, 1, 2]]), torch.tensor([7, 7])

    def closure() -> torch.Tensor:
        scores = model(x).log_softmax(-1)
        return nn.functional.ctc_loss(scores, targets, lengths, torch.tensor([3, 3]))

    return model, closure


@pytest.mark.parametrize("make", [bag, ctc])
def test_what_has_no_second_derivative_goes_to_differences_with_a_note(make):
    model, closure = make()
    found = jet(closure, model)
    name, why = found.engine
    assert name == "central_differences"
    assert "double_backward cannot" in why
    assert "forward_over_reverse cannot" in why
    params = list(model.parameters())
    expected = oracle.product(closure, params, found.gradient)
    assert oracle.relative_error(found.hessian_gradient, oracle.flat(expected)) < ROUGH
    with pytest.raises(ValueError, match=r"got double_backward \(.*engine='auto'"):
        jet(closure, model, engine="double_backward")


def test_attention_that_insists_on_the_fused_kernel_goes_to_differences():
    from torch.nn.attention import SDPBackend, sdpa_kernel

    model = nn.Linear(4, 12)
    x = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 3)  # with a mask, the formula leaves attention to torch

    def closure(backend: SDPBackend) -> torch.Tensor:
        q, k, v = model(x).chunk(3, -1)
        with sdpa_kernel(backend):
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, mask)
        return (mixed**3).mean()

    found = jet(lambda: closure(SDPBackend.FLASH_ATTENTION), model)
    assert found.engine.name == "central_differences"
    plain = jet(lambda: closure(SDPBackend.MATH), model)
    assert plain.engine.name == "double_backward"
    product = oracle.flat(plain.hessian_gradient)
    assert distance(oracle.flat(found.hessian_gradient), product) < oracle.differencing(
        torch.float32
    )


@pytest.mark.slow
def test_a_compiled_module_runs_eagerly_inside():
    small = case("mlp gelu")
    exact = hg(small, "double_backward")
    compiled = torch.compile(small.model, backend="aot_eager")
    before = compiled(small.inputs)

    def closure() -> torch.Tensor:
        return nn.functional.cross_entropy(compiled(small.inputs), small.targets)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = jet(closure, compiled.parameters())
    assert found.engine.name == "double_backward"
    assert distance(oracle.flat(found.hessian_gradient), exact) < SINGLE
    assert torch.equal(compiled(small.inputs), before)


def test_a_fault_of_the_closure_is_not_taken_for_an_engines():
    x = nn.Parameter(torch.ones(2))
    with pytest.raises(RuntimeError, match="size"):
        jet(lambda: (x @ torch.ones(3)).square(), [x])


class WrongTwice(torch.autograd.Function):
    """Compute x^3 with a backward pass that takes x as constant: its second derivative is 0."""

    @staticmethod
    def forward(ctx, x):
        ctx.x = x.detach()
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.x**2 * grad


class Hungry(torch.autograd.Function):
    """Compute x^3 with a backward pass that has no memory to be recorded."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")
        return 3 * ctx.saved_tensors[0] ** 2 * grad


def test_without_memory_auto_takes_differences():
    x = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    found = jet(lambda: Hungry.apply(x).sum(), [x])
    assert found.engine.name == "central_differences"
    assert "tried to allocate" in found.engine.why
    assert torch.allclose(found.hessian_gradient[0], 18 * x.detach() ** 3, rtol=ROUGH)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_check_finds_a_wrong_second_derivative(dtype: torch.dtype, monkeypatch):
    x = nn.Parameter(torch.tensor([1.0, 2.0, 0.5], dtype=dtype))
    known = {(WrongTwice, torch.finfo(dtype).eps): _kernels.SEVERAL}
    monkeypatch.setattr(_kernels, "compared", known)
    with pytest.raises(ValueError, match="double_backward is wrong"):
        jet(lambda: WrongTwice.apply(x).sum() + x.square().sum(), [x], check=True)


def test_a_function_that_keeps_a_parameter_without_its_graph_goes_to_differences():
    x = nn.Parameter(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64))
    found = jet(lambda: WrongTwice.apply(x).sum() + x.square().sum(), [x])
    assert found.engine.name == "central_differences"
    g = 3 * x.detach() ** 2 + 2 * x.detach()
    assert torch.allclose(found.hessian_gradient[0], (6 * x.detach() + 2) * g, rtol=ROUGH)


@pytest.mark.parametrize("name", MODELS)
def test_check_passes_what_is_right(name: str):
    small = case(name)
    found = jet(small.closure, small.model, check=True)
    assert found.checked is not None
    assert found.checked.verdict == "right"


def test_check_says_that_kinks_stand_in_the_way():
    generator = torch.Generator().manual_seed(0)
    x = nn.Parameter(torch.randn(4, generator=generator))
    a = torch.randn(4000, 4, generator=generator)  # many kinks within any step of float32
    with pytest.warns(UserWarning, match="kinks"):
        found = jet(lambda: (a @ x).abs().mean() + 1e-3 * x.square().sum(), [x], check=True)
    assert found.checked is not None
    assert found.checked.verdict == "inconclusive"


def test_the_length_of_differences_follows_the_autocast_inside_the_closure():
    small = case("mlp gelu")

    def closure() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return small.closure()

    inside = jet(closure, small.model, engine="central_differences")
    with torch.autocast("cpu", torch.bfloat16):
        around = jet(small.closure, small.model, engine="central_differences")
    for a, b in zip(inside.hessian_gradient, around.hessian_gradient, strict=True):
        assert torch.equal(a, b)

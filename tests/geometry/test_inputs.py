"""Give frozen, unused and wrong input: get zeros where they are right, else one clear line."""

from __future__ import annotations

import pytest
import torch
from tests.geometry import oracle
from torch import nn

from corridor.geometry import Probe, jet, measure, measure_dataset, sharpness
from corridor.geometry.graph import from_graph


def cubic(x: torch.Tensor) -> torch.Tensor:
    return (x**3).sum()


def leaf(*values: float, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def test_frozen_and_unused_parameters_get_zeros():
    x, frozen, unused = leaf(1.0, 2.0), leaf(5.0), leaf(7.0)
    frozen.requires_grad_(False)
    found = jet(lambda: cubic(x) * frozen.sum(), [x, frozen, unused])
    assert torch.equal(found.gradient[0], 15 * x.detach() ** 2)
    assert torch.equal(found.hessian_gradient[0], 30 * x.detach() * 15 * x.detach() ** 2)
    for given in (found.gradient, found.hessian_gradient):
        assert torch.equal(torch.cat(given[1:]), torch.zeros(2, dtype=torch.float64))
        assert not any(t.requires_grad for t in given)


def test_a_linear_loss_has_no_curvature():
    x, y = leaf(1.0, 2.0), leaf(3.0)
    found = jet(lambda: 2 * x.sum() + y.sum(), [x, y])
    assert [h.tolist() for h in found.hessian_gradient] == [[0.0, 0.0], [0.0]]
    found = jet(lambda: 2 * x.sum() + cubic(y), [x, y])  # linear in one of them
    assert [h.tolist() for h in found.hessian_gradient] == [[0.0, 0.0], [486.0]]


def test_mixed_dtypes_keep_theirs():
    x, y = leaf(1.0, 2.0, dtype=torch.float32), leaf(3.0)
    found = jet(lambda: (x.double() * y).square().sum(), [x, y])
    assert [h.dtype for h in found.hessian_gradient] == [torch.float32, torch.float64]
    g = torch.tensor([18.0, 36.0, 30.0], dtype=torch.float64)  # 2 x y^2, 2 y |x|^2
    hessian = torch.tensor([[18.0, 0, 12], [0, 18, 24], [12, 24, 10]], dtype=torch.float64)
    assert torch.allclose(torch.cat([h.double() for h in found.hessian_gradient]), hessian @ g)


def test_complex_parameters():
    z = nn.Parameter(torch.tensor([1.0 + 2.0j], dtype=torch.complex128))
    found = jet(lambda: (z.real**3 + z.imag**3 + z.real * z.imag).sum(), [z])
    g = torch.tensor([3 + 2.0, 12 + 1.0], dtype=torch.float64)
    hessian = torch.tensor([[6.0, 1], [1, 12]], dtype=torch.float64)
    assert torch.allclose(torch.view_as_real(found.hessian_gradient[0])[0], hessian @ g)


def test_a_gradient_that_is_a_lazy_conjugate():
    """Compare with the same loss of real and imaginary parts."""
    X = torch.tensor([[1.0 + 2.0j, -1.0j], [0.5, 2.0 - 1.0j]], dtype=torch.complex128)
    w = nn.Parameter(torch.tensor([1.0 - 1.0j, 2.0 + 0.5j], dtype=torch.complex128))
    parts = nn.Parameter(torch.view_as_real(w.detach()).clone())

    def loss(w: torch.Tensor) -> torch.Tensor:
        return (w.conj() @ X - 1.0).abs().sum()

    assert torch.autograd.grad(loss(w), w)[0].is_conj()
    for measured in (
        lambda f, p: measure(f, [p], step=0.1, check=True).as_dict(),
        lambda f, p: {"value": sharpness(f, [p], tolerance=1e-6).value},
    ):
        found = measured(lambda: loss(w), w)
        assert found == pytest.approx(measured(lambda: loss(torch.view_as_complex(parts)), parts))


@pytest.mark.parametrize("form", ["groups", "named", "generator", "module"])
def test_parameters_come_in_any_form(form: str):
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    given = {
        "groups": [{"params": [model[0].weight]}, {"params": [model[0].bias]}],
        "named": model.named_parameters(),
        "generator": model.parameters(),
        "module": model,
    }[form]
    found = jet(lambda: model(torch.ones(1, 2)).sum(), given)
    assert [tuple(g.shape) for g in found.gradient] == [(2, 2), (2,)]


def _inference_parameter() -> list[torch.Tensor]:
    with torch.inference_mode():
        return [torch.ones(2)]


X = leaf(1.0, 2.0)
WRONG = {
    "a number": (lambda: 1.0, [X], "loss must be a scalar tensor, got float"),
    "a vector": (lambda: X * 2, [X], r"one real number, got torch.float64 of shape \(2,\)"),
    "complex": (lambda: cubic(X) * 1j, [X], "one real number"),
    "no graph": (lambda: cubic(X.detach()), [X], "loss must have a graph"),
    "not a number": (lambda: cubic(X) * float("nan"), [X], "loss must be finite, got nan"),
    "infinite": (lambda: cubic(X) * float("inf"), [X], "loss must be finite, got inf"),
    "other parameters": (lambda: cubic(X), [leaf(1.0)], "a loss that uses none of the 1"),
    "no parameters": (lambda: cubic(X), [], "at least one parameter"),
    "one tensor": (lambda: cubic(X), X, r"write \[tensor\]"),
    "no tensor": (lambda: cubic(X), [X, 3.0], "got float at 1"),
    "nothing": (lambda: cubic(X), None, "got NoneType"),
    "twice": (lambda: cubic(X), [X, X], "got a tensor twice"),
    "two devices": (lambda: cubic(X), [X, X.to("meta")], "one device, got cpu, meta"),
    "all frozen": (lambda: cubic(X), [torch.ones(2)], "requires a gradient"),
    "made in inference mode": (lambda: cubic(X), _inference_parameter(), "inference mode"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_clear_line(name: str):
    closure, params, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as error:
        jet(closure, params)
    assert "\n" not in str(error.value)


def test_a_closure_that_calls_backward_is_one_clear_line_and_leaves_grad_alone():
    x = leaf(1.0, 2.0)
    x.grad = torch.ones_like(x)
    kept = x.grad

    def closure() -> torch.Tensor:
        loss = cubic(x)
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="closure must not call backward"):
        jet(closure, [x])
    assert x.grad is kept
    assert kept.tolist() == [1.0, 1.0]


def test_points_that_are_no_leaves():
    x = leaf(1.0, 2.0)
    y = 2 * x
    found = jet(lambda: cubic(y), [y])
    assert torch.equal(found.hessian_gradient[0], 18 * y.detach() ** 3)


def test_losses_computed_by_torch_func():
    from torch.func import functional_call, vmap

    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.GELU(), nn.Linear(3, 1)).double()
    x = torch.linspace(-1, 1, 8, dtype=torch.float64).view(4, 2)
    params = dict(model.named_parameters())
    apart = jet(
        lambda: vmap(lambda row: functional_call(model, params, (row,)))(x).square().mean(), model
    )
    together = jet(lambda: model(x).square().mean(), model)
    for a, b in zip(apart.hessian_gradient, together.hessian_gradient, strict=True):
        assert torch.allclose(a, b, rtol=oracle.rounding(1e6), atol=oracle.rounding(1e6))


@pytest.mark.parametrize("engine", ["auto", "central_differences"])
def test_reentrant_checkpoints_hide_parameters_and_name_the_way_out(engine: str):
    from torch.utils.checkpoint import checkpoint

    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    x = torch.ones(3, 2, requires_grad=True)

    def closure() -> torch.Tensor:
        return model[1](checkpoint(model[0], x, use_reentrant=True)).square().mean()

    with pytest.raises(ValueError, match="use_reentrant=False"):
        jet(closure, model, engine=engine)


def test_inference_mode_and_an_unknown_engine_are_one_clear_line():
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode must be off"):
        jet(lambda: cubic(X), [X])
    with pytest.raises(ValueError, match="engine must be"):
        jet(lambda: cubic(X), [X], engine="quantum")


def test_what_is_not_finite_can_be_asked_for():
    assert jet(lambda: cubic(X) * float("nan"), [X], allow_nonfinite=True).loss.isnan()


@pytest.mark.parametrize("call", [measure, jet, sharpness, lambda f, p: Probe(p)(f)])
@pytest.mark.parametrize(
    ("loss", "kind"), [(torch.ones(()), "Tensor"), (1.5, "float"), (None, "NoneType")]
)
def test_a_loss_in_place_of_its_function_is_one_line(call, loss, kind):
    wanted = f"closure must be a function, got {kind}; write lambda: loss_fn"
    with pytest.raises(ValueError, match=wanted):
        call(loss, [leaf(1.0)])


def test_neither_default_device_nor_default_dtype_matters():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    x, y = torch.ones(4, 2), torch.zeros(4, 1)

    def numbers() -> list[float]:
        here = measure(lambda: nn.functional.mse_loss(model(x), y), model, step=0.1, check=True)
        top = sharpness(lambda: nn.functional.mse_loss(model(x), y), model)
        whole = measure_dataset(model, nn.functional.mse_loss, [(x, y)] * 2, step=0.1)
        return [*here.as_dict().values(), top.value, top.bound, *whole.as_dict().values()]

    expected = numbers()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        assert numbers() == pytest.approx(expected, rel=1e-6, nan_ok=True)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_a_graph_needs_a_loss_with_a_graph():
    x = leaf(1.0)
    with torch.no_grad(), pytest.raises(ValueError, match="loss must have a graph"):
        from_graph(cubic(x), [x])


@pytest.mark.parametrize("size", [10, 1 << 15])
def test_frozen_whole_numbers_are_constants(size: int):
    model = nn.Linear(3, 1)
    batches = [(torch.ones(2, 3), torch.zeros(2, 1))]

    def closure() -> torch.Tensor:
        return model(batches[0][0]).square().mean()

    bare = measure(closure, model, step=0.1)
    model.packed = nn.Parameter(torch.ones(size, dtype=torch.int8), requires_grad=False)
    found = measure(closure, model, step=0.1)
    assert found.as_dict() == bare.as_dict()
    assert jet(closure, model, check=True).gradient[-1].shape == (size,)
    whole = measure_dataset(model, nn.functional.mse_loss, batches, step=0.1)
    assert whole.rho == pytest.approx(float(bare.rho), rel=oracle.rounding(1e4, torch.float32))

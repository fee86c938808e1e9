"""Compare measures of a data set in batches with one large batch, and with definitions."""

from __future__ import annotations

import math
from collections import UserDict
from typing import Any, NamedTuple

import pytest
import torch
from tests.geometry import oracle
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from corridor.geometry import jet, measure, measure_dataset
from corridor.geometry._batches import moved

SAME = oracle.rounding(1e6)


def model(*middle: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), *middle, nn.Tanh(), nn.Linear(6, 3)).double()


def data(n: int = 50) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (n,), generator=generator)


def batches(size: int = 16) -> list[tuple[Tensor, Tensor]]:
    x, y = data()
    return list(zip(x.split(size), y.split(size), strict=True))


def gradients(net: nn.Module, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    params = list(net.parameters())
    return torch.stack(
        [oracle.flat(list(torch.autograd.grad(cross_entropy(net(x), y), params))) for x, y in parts]
    )


def test_unequal_batches_give_what_one_batch_gives():
    net, (x, y) = model(), data()
    whole = measure(lambda: cross_entropy(net(x), y), net, step=0.3)
    found = measure_dataset(net, cross_entropy, batches(), step=0.3)
    assert (found.batches, found.examples, found.batch_norm) == (4, 50.0, "none")
    assert found.secant is not None
    assert whole.secant is not None
    for name in ("loss", "grad_norm", "hg_norm", "ghg", "rho", "rho_perp", "clr"):
        assert float(getattr(found, name)) == pytest.approx(float(getattr(whole, name)), rel=SAME)
    for name in ("rho", "decrease", "smoothness"):
        value = float(getattr(whole.secant, name))
        assert float(getattr(found.secant, name)) == pytest.approx(value, rel=SAME)
    exact = jet(lambda: cross_entropy(net(x), y), net)
    assert oracle.relative_error(found.gradient, oracle.flat(exact.gradient)) < SAME
    hg = oracle.flat(exact.hessian_gradient)
    assert oracle.relative_error(found.hessian_gradient, hg) < SAME


def test_averaged_batch_products_are_hg_plus_the_gradient_of_half_the_variance():
    net, parts = model(), batches()
    found = measure_dataset(net, cross_entropy, parts)
    params = list(net.parameters())
    weights = torch.tensor([len(y) for _, y in parts], dtype=torch.float64) / 50

    def half_variance() -> Tensor:
        grads = [
            torch.autograd.grad(cross_entropy(net(x), y), params, create_graph=True)
            for x, y in parts
        ]
        g_b = torch.stack([oracle.flat(list(g)) for g in grads])
        return 0.5 * (weights @ (g_b - weights @ g_b).square().sum(1))

    variance = half_variance()
    assert float(found.gradient_variance) == pytest.approx(2 * variance.item(), rel=SAME)
    turning = oracle.flat(list(torch.autograd.grad(variance, params)))
    assert float(found.variance_hg_norm) == pytest.approx(float(turning.norm()), rel=SAME)
    sum_of_both = oracle.flat(found.hessian_gradient) + turning
    assert float(found.batch_hg_norm) == pytest.approx(float(sum_of_both.norm()), rel=SAME)


def test_regularizers_and_batch_sharpness_follow_their_definitions():
    net, parts = model(), batches(10)
    found = measure_dataset(net, cross_entropy, parts)
    g_b = gradients(net, parts)
    spread = float((g_b - g_b.mean(0)).square().sum(1).mean())
    assert float(found.batch_regularizer(0.2)) == pytest.approx(0.05 * spread, rel=SAME)
    flow = 0.05 * float(g_b.mean(0).square().sum())
    assert float(found.flow_regularizer(0.2)) == pytest.approx(flow, rel=SAME)
    each = [measure(lambda x=x, y=y: cross_entropy(net(x), y), net) for x, y in parts]
    bends = sum(float(m.ghg) for m in each) / sum(float(m.grad_norm**2) for m in each)
    assert float(found.batch_sharpness) == pytest.approx(bends, rel=SAME)


def test_the_noise_scale_estimates_the_trace_of_the_examples_covariance():
    net, (x, y) = model(), data()
    singles = gradients(net, [(x[i : i + 1], y[i : i + 1]) for i in range(50)])
    trace = float((singles - singles.mean(0)).square().sum() / 49)
    estimates = []
    for seed in range(20):
        order = torch.randperm(50, generator=torch.Generator().manual_seed(seed))
        parts = list(zip(x[order].split(10), y[order].split(10), strict=True))
        found = measure_dataset(net, cross_entropy, parts, batch_products=False)
        estimates.append(float(found.trace))
        assert float(found.noise_scale * found.grad_norm**2) == pytest.approx(estimates[-1])
    mean = sum(estimates) / len(estimates)
    deviation = (sum((e - mean) ** 2 for e in estimates) / 19) ** 0.5
    assert abs(mean - trace) < 3 * deviation / 20**0.5
    exact = measure_dataset(
        net, cross_entropy, [(x[i : i + 1], y[i : i + 1]) for i in range(50)], batch_products=False
    )
    assert float(exact.trace) == pytest.approx(trace, rel=SAME)


def test_without_batch_products_their_numbers_are_undefined_and_the_rest_is_the_same():
    net = model()
    full = measure_dataset(net, cross_entropy, batches())
    less = measure_dataset(net, cross_entropy, batches(), batch_products=False)
    assert float(less.hg_norm) == pytest.approx(float(full.hg_norm), rel=SAME)
    for name in ("batch_sharpness", "batch_hg_norm", "variance_hg_norm"):
        assert math.isnan(float(getattr(less, name)))
    assert less.as_dict().keys() == full.as_dict().keys()


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_uses_what_the_mode_says(training: bool):
    net = model(nn.BatchNorm1d(6))
    with torch.no_grad():
        net(data()[0])
    net.train(training)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    parts = batches()
    found = measure_dataset(net, cross_entropy, parts)
    assert found.batch_norm == ("batch" if training else "running")

    def ghost() -> Tensor:
        return sum(len(y) / 50 * cross_entropy(net(x), y) for x, y in parts)  # pyright: ignore

    assert float(found.hg_norm) == pytest.approx(float(measure(ghost, net).hg_norm), rel=SAME)
    x, y = data()
    joined = measure(lambda: cross_entropy(net(x), y), net)
    assert math.isclose(float(joined.loss), float(found.loss), rel_tol=SAME) is not training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training is training


def test_dropout_and_a_shuffling_loader_stay_the_same_through_both_passes():
    net = model(nn.Dropout(0.5))
    loader = DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True)
    state = torch.get_rng_state()
    found = measure_dataset(net, cross_entropy, loader)
    assert torch.equal(torch.get_rng_state(), state)
    again = measure_dataset(net, cross_entropy, loader)
    assert float(found.rho) == float(again.rho)
    assert not torch.equal(
        found.gradient[0], measure_dataset(net, cross_entropy, batches()).gradient[0]
    )


def test_float32_sums_lose_nothing():
    net = model().float()
    x, y = data()
    parts = [(x.float()[i : i + 1], y[i : i + 1]) for i in range(50)] * 5
    found = measure_dataset(net, cross_entropy, parts, batch_products=False)
    whole = measure_dataset(net.double(), cross_entropy, [(x, y)])
    assert {t.dtype for t in (*found.gradient, *found.hessian_gradient)} == {torch.float64}
    single = oracle.rounding(1e3, torch.float32)
    assert float(found.grad_norm) == pytest.approx(float(whole.grad_norm), rel=single)
    assert float(found.rho) == pytest.approx(float(whole.rho), rel=single)


def test_other_batches():
    net = model()
    x, y = data()
    mappings = [{"inputs": a, "labels": b} for a, b in batches()]
    found = measure_dataset(
        net,
        None,
        mappings,
        batch_loss=lambda m, batch: cross_entropy(m(batch["inputs"]), batch["labels"]),
    )
    assert float(found.rho) == pytest.approx(
        float(measure(lambda: cross_entropy(net(x), y), net).rho), rel=SAME
    )


class Sentence(UserDict):
    """A mapping that moves itself, as encodings of text do."""

    def to(self, device):
        return Sentence({**self.data, "moved": device})


class Pair(NamedTuple):
    inputs: Tensor
    labels: Any


def test_batches_move_to_the_device_in_their_own_way():
    place, x = torch.device("meta"), torch.ones(2)
    assert moved(Sentence(), place)["moved"] == place
    for batch in (Pair(x, [x, "a"]), (x, [x, "a"]), [x, (x, 3)]):
        found = moved(batch, place)
        assert type(found) is type(batch)
        assert found[0].device.type == found[1][0].device.type == "meta"
        assert found[1][1] == batch[1][1]
    assert moved({"x": x, "n": 3}, place)["x"].device.type == "meta"


class Restless(list):
    """Change the order, and so the losses, in every pass."""

    def __iter__(self):
        self.reverse()
        self.pop()
        return super().__iter__()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an iterator": ({"batches": iter(batches())}, "got an iterator"),
    "nothing": ({"batches": []}, "at least one batch"),
    "not pairs": (
        {"batches": [torch.ones(4, 3).double()]},
        r"pairs \(inputs, targets\)",
    ),
    "two rows are not a pair": (
        {"batches": [torch.ones(2, 3).double()]},
        r"pairs \(inputs, targets\), got Tensor; give batch_loss=",
    ),
    "two keys are not a pair": (
        {"batches": [{"inputs": a, "labels": b} for a, b in batches()]},
        r"pairs \(inputs, targets\), got dict; give batch_loss=",
    ),
    "an encoding": (
        {"batches": [UserDict({"inputs": a, "labels": b}) for a, b in batches()]},
        "got UserDict",
    ),
    "the batch itself": ({"batches": data()}, "got Tensor"),
    "the name of a loss": ({"loss_fn": "mse"}, "loss_fn must be a function, got str; write torch"),
    "no batch_loss": (
        {"loss_fn": None, "batch_loss": 3.0},
        "batch_loss must be a function, got float; write lambda model, batch",
    ),
    "no size": ({"batches": [(3.0, 1)]}, "tensors with a length"),
    "changing": ({"batches": Restless(batches())}, "equal in every pass"),
    "no loss": ({"loss_fn": None}, "loss_fn or batch_loss must be"),
    "infinite": (
        {"loss_fn": lambda a, b: cross_entropy(a, b) / 0.0},
        "loss must be finite, got inf",
    ),
    "bound": ({"f_star": math.nan}, "f_star must be"),
    "step": ({"step": -1.0}, "step must be"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_clear_line(name: str):
    changed, message = WRONG[name]
    options: dict[str, Any] = {"loss_fn": cross_entropy, "batches": batches(), **changed}
    with pytest.raises(ValueError, match=message) as error:
        measure_dataset(model(), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("products", [True, False])
def test_what_cannot_be_differentiated_twice_is_one_clear_line(products: bool):
    bag = nn.EmbeddingBag(6, 3)
    parts = [(torch.tensor([[0, 1], [2, 3]]), torch.tensor([0, 1]))]
    with pytest.raises(ValueError, match="cannot be differentiated twice"):
        measure_dataset(bag, cross_entropy, parts, batch_products=products)


def test_a_loss_of_16_bits_times_its_weight_does_not_overflow():
    model = torch.nn.Linear(2, 1)
    batches = [torch.ones(3, 2), torch.ones(2, 2)]
    found = measure_dataset(
        model,
        None,
        batches,
        batch_loss=lambda model, x: (model(x) ** 2 + 1.0).mean().half(),
        batch_size=lambda x: 1e5 * len(x),
    )
    expected = model(batches[0]).detach().mean() ** 2 + 1.0
    assert float(found.loss) == pytest.approx(
        float(expected), rel=oracle.rounding(2, torch.float16)
    )

"""Measure through activation checkpoints, whose layers run again in the backward pass."""

from __future__ import annotations

import pytest
import torch
from tests.geometry import oracle
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from corridor.geometry import jet, measure_dataset, sharpness

EXACT = oracle.rounding(1e6)


class Attention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x, need_weights=False)[0]


LAYERS = {
    "batch norm": lambda: nn.BatchNorm1d(6),
    "batch norm, running": lambda: nn.BatchNorm1d(6).eval(),
    "layer norm": lambda: nn.LayerNorm(6),
    "gelu": nn.GELU,
    "attention": lambda: Attention(6, 2),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(6, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_checkpoint_changes_no_number(name: str):
    torch.manual_seed(0)
    first, layer, last = nn.Linear(6, 6), LAYERS[name](), nn.Linear(6, 1)
    model = nn.ModuleList([first, layer, last]).double()
    x = torch.randn(8, 6, dtype=torch.float64)

    def plain() -> Tensor:
        return last(layer(first(x)).tanh()).square().mean()

    def checkpointed() -> Tensor:
        return last(checkpoint(layer, first(x), use_reentrant=False).tanh()).square().mean()

    expected, found = jet(plain, model), jet(checkpointed, model)
    # Torch's own weight norm, which a checkpoint leaves in place, has a wrong second derivative.
    exact = name != "weight norm"
    assert found.engine.name == ("double_backward" if exact else "central_differences")
    error = oracle.relative_error(found.gradient, oracle.flat(expected.gradient))
    assert error < EXACT
    error = oracle.relative_error(found.hessian_gradient, oracle.flat(expected.hessian_gradient))
    assert error < (EXACT if exact else oracle.differencing())
    if exact:
        top = sharpness(checkpointed, model).value
        assert top == pytest.approx(sharpness(plain, model).value, rel=oracle.rounding(1e9))
        whole = measure_dataset(model, None, [x], batch_loss=lambda model, batch: checkpointed())
        assert float(whole.loss) == pytest.approx(float(expected.loss), rel=EXACT)
        product = oracle.flat(expected.hessian_gradient)
        assert oracle.relative_error(whole.hessian_gradient, product) < EXACT

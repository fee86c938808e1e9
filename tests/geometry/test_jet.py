"""Hg of every kind of layer against a dense Hessian that needs no second derivatives."""

from __future__ import annotations

import pytest
import torch
from tests.geometry import oracle
from tests.geometry.networks import MODELS, case

from corridor.geometry import jet

# The oracle's steps must cross no kink, and stay where its order shows.
LENGTHS = {"mlp relu": 2e-5, "batch norm, in-place relu": 2e-5, "max pool": 2e-5}
LENGTHS |= {"instance norm": 5e-4}


@pytest.mark.parametrize("name", MODELS)
def test_hg_agrees_with_a_dense_hessian(name: str):
    small = case(name)
    twin = small.double()
    params, buffers = list(twin.model.parameters()), list(twin.model.buffers())
    hessian = oracle.dense_hessian(twin.closure, params, buffers, LENGTHS.get(name, 3e-3))
    again = twin.copy()  # its buffers may move
    g = oracle.gradient(again.closure, list(again.model.parameters()))
    expected = hessian @ oracle.flat(g)
    torch.manual_seed(0)
    wide = jet(twin.closure, params)
    assert oracle.relative_error(wide.gradient, oracle.flat(g)) < 1e-13
    assert oracle.relative_error(wide.hessian_gradient, expected) < 1e-10
    assert float((hessian - hessian.T).norm() / hessian.norm()) < 1e-10  # the oracle's own error
    torch.manual_seed(0)
    narrow = jet(small.closure, small.model.parameters())
    assert oracle.relative_error(narrow.hessian_gradient, expected) < 1e-5
    assert [h.dtype for h in narrow.hessian_gradient] == [torch.float32] * len(params)

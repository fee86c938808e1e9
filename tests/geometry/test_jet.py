"""Hg of every kind of layer against a dense Hessian that needs no second derivatives."""

from __future__ import annotations

import pytest
import torch
from tests.geometry import oracle
from tests.geometry.networks import MODELS, case

from corridor.geometry import jet

KINKED = ("mlp relu", "batch norm, in-place relu", "max pool")


@pytest.mark.parametrize("name", MODELS)
def test_hg_agrees_with_a_dense_hessian(name: str):
    small = case(name)
    twin = small.double()
    params, buffers = list(twin.model.parameters()), list(twin.model.buffers())
    length = 2e-5 if name in KINKED else 3e-3  # no kink may lie within four steps
    hessian = oracle.dense_hessian(twin.closure, params, buffers, length)
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

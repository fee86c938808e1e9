"""Compute products from a recorded graph, and read the errors of graphs without a product."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corridor.geometry.graph import from_graph


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def test_a_model_compiled_ahead_of_time_is_refused_with_its_way_out():
    model = network()
    compiled = torch.compile(model, backend="aot_eager")
    loss = compiled(torch.ones(2, 3)).square().mean()
    with pytest.raises(ValueError, match=r"leave the model uncompiled.*backend='eager'") as error:
        from_graph(loss, list(model.parameters()))
    assert "attention" not in str(error.value)
    assert "\n" not in str(error.value)


def test_the_way_out_works():
    found = []
    for model in (network(), torch.compile(network(), backend="eager")):
        loss = model(torch.ones(2, 3)).square().mean()
        found.append(from_graph(loss, list(model.parameters())).product)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_a_loss_whose_graph_is_gone_is_refused_with_its_way_out():
    model = network()
    loss = model(torch.ones(2, 3)).square().mean()
    loss.backward()
    with pytest.raises(ValueError, match="before the backward pass"):
        from_graph(loss, list(model.parameters()))

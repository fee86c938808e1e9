"""A small regression, the steps of its reference, and what the tests of the loss compare."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from corridor import CLR


class Regression(nn.Module):
    """Returns its loss the way the model hubs do."""

    def __init__(self, form: str = "object") -> None:
        super().__init__()
        self.layer, self.form = nn.Linear(3, 2, dtype=torch.float64), form

    def forward(self, x, y=None):
        out = self.layer(x)
        loss = None if y is None else (out - y).square().mean()
        if self.form == "scalar":
            return loss
        if self.form == "tuple":
            return (loss, out)
        fields = {"loss": loss, "logits": out}
        return fields if self.form == "dict" else SimpleNamespace(**fields)


def data(n: int = 8):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return x, x[:, :2] + 0.5


def loss_of(model: Regression, x, y):
    return (model.layer(x) - y).square().mean()


def fresh(form: str = "object", **options) -> tuple[Regression, CLR]:
    torch.manual_seed(1)
    model = Regression(form)
    return model, CLR(model.parameters(), max_lr=float("inf"), **options)


def reference(steps: int = 3, **options) -> list[torch.Tensor]:
    model, opt = fresh(**options)
    for _ in range(steps):
        opt.zero_grad()
        loss = loss_of(model, *data())
        loss.backward()
        assert opt.step(loss=loss) is loss
    return [p.detach() for p in model.parameters()]


def check_equal(model: Regression, expected: list[torch.Tensor]) -> None:
    for p, q in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-10, atol=1e-12)

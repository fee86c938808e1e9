"""Compute derivatives by central differences of order eight in float64, and tolerances."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# The weights of an eighth-order first derivative at offsets 1 to 4, antisymmetric.
WEIGHTS = (4 / 5, -1 / 5, 4 / 105, -1 / 280)


def rounding(operations: float, dtype: torch.dtype = torch.float64) -> float:
    """Return the relative error that a number of roundings can add up to.

    A gradient of a network here is a chain of some hundred roundings per number, and its batch has
    up to fifty examples. So 1e4 operations are generous for a gradient and 1e6 for ratios of norms.
    """
    return operations * torch.finfo(dtype).eps


def differencing(dtype: torch.dtype = torch.float64) -> float:
    """Return the relative error of central differences at their best length, ``eps^(2/3)``.

    The factor allows for a third derivative that is 1000 times as large as the first.
    """
    return 1000.0 * torch.finfo(dtype).eps ** (2.0 / 3.0)


def gradient(closure: Callable[[], Tensor], params: list[Tensor], seed: int = 0) -> list[Tensor]:
    """Return first derivatives, with random numbers from a fixed seed."""
    torch.manual_seed(seed)
    found = torch.autograd.grad(closure(), params, allow_unused=True)
    pairs = zip(found, params, strict=True)
    return [torch.zeros_like(p) if g is None else g.detach() for g, p in pairs]


def product(
    closure: Callable[[], Tensor],
    params: list[Tensor],
    vector: list[Tensor],
    *,
    length: float = 3e-3,
    seed: int = 0,
    buffers: list[Tensor] | None = None,
) -> list[Tensor]:
    """Return ``H v`` from eight gradients, at one to four steps of the given length."""
    start = [p.detach().clone() for p in params]
    saved = [b.clone() for b in buffers or []]
    size = float(torch.cat([v.reshape(-1) for v in vector]).norm())
    step = length / max(size, 1e-300)
    total = [torch.zeros_like(p) for p in params]
    for offset, weight in enumerate(WEIGHTS, 1):
        for sign in (1, -1):
            with torch.no_grad():
                for b, value in zip(buffers or [], saved, strict=True):
                    b.copy_(value)
                for p, p0, v in zip(params, start, vector, strict=True):
                    p.copy_(p0 + sign * offset * step * v)
            for t, g in zip(total, gradient(closure, params, seed), strict=True):
                t.add_(g, alpha=sign * weight / step)
    with torch.no_grad():
        for p, p0 in zip(params, start, strict=True):
            p.copy_(p0)
        for b, value in zip(buffers or [], saved, strict=True):
            b.copy_(value)
    return total


def dense_hessian(
    closure: Callable[[], Tensor],
    params: list[Tensor],
    buffers: list[Tensor],
    length: float = 3e-3,
    seed: int = 0,
) -> Tensor:
    """Return the whole Hessian [n, n], computed column by column."""
    columns = []
    for p in params:
        for index in range(p.numel()):
            unit = [torch.zeros_like(q) for q in params]
            unit[[id(q) for q in params].index(id(p))].view(-1)[index] = 1.0
            column = product(closure, params, unit, length=length, seed=seed, buffers=buffers)
            columns.append(flat(column))
    return torch.stack(columns, 1)


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def relative_error(found: list[Tensor], expected: Tensor) -> float:
    """Return the Euclidean distance, divided by the expected length."""
    difference = flat(found).to(expected) - expected
    return float(difference.norm() / expected.norm())

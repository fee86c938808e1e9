"""Lanczos' method: top curvature, and functions of the Hessian times a vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def lanczos(
    product: Callable[[Tensor], Tensor], start: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """An orthonormal Krylov basis and the symmetric matrix restricted to it.

    Every new vector is made orthogonal to all earlier ones twice, so that rounding does not bring
    back directions already found. It ends early where the space is invariant.

    Args:
        product: v -> Hv, H symmetric.
        start: [n], not 0.
        steps: dimension of the space at most.

    Returns:
        V [n, m] and T = V^T H V [m, m], tridiagonal.

    Example:
        >>> H = torch.diag(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
        >>> V, T = lanczos(lambda v: H @ v, torch.ones(3, dtype=torch.float64), 3)
        >>> round(float(torch.linalg.eigvalsh(T)[-1]), 12)
        5.0

    Reference:
        Golub and Van Loan (2013), "Matrix Computations", chapter 10.
    """
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for _ in range(min(steps, start.numel())):
        w = product(basis[-1])
        diagonal.append(basis[-1] @ w)
        V = torch.stack(basis, dim=1)
        size = w.norm()
        for _ in range(2):
            w = w - V @ (V.T @ w)
        if not w.norm() > 100.0 * torch.finfo(w.dtype).eps * size:
            break
        beside.append(w.norm())
        basis.append(w / w.norm())
    m = len(diagonal)
    T = torch.diag(torch.stack(diagonal))
    if m > 1:
        off = torch.stack(beside[: m - 1])
        T = T + torch.diag(off, 1) + torch.diag(off, -1)
    return torch.stack(basis[:m], dim=1), T


def top_curvature(product: Callable[[Tensor], Tensor], start: Tensor, steps: int = 20) -> float:
    """Largest eigenvalue of H by Lanczos' method from a vector; from below.

    Args:
        product: v -> Hv.
        start: [n]; where it is 0, a fixed random one serves.
        steps: products at most.
    """
    if not start.norm() > 0.0:
        generator = torch.Generator(device=start.device).manual_seed(0)
        start = torch.randn(
            start.shape, generator=generator, dtype=start.dtype, device=start.device
        )
    _, T = lanczos(product, start, steps)
    return float(torch.linalg.eigvalsh(T)[-1])


def function_times(
    product: Callable[[Tensor], Tensor],
    vector: Tensor,
    function: Callable[[Tensor], Tensor],
    steps: int = 30,
) -> Tensor:
    """``f(H) v`` as ``||v|| V f(T) e_1`` in the Krylov space of v.

    Args:
        product: u -> Hu.
        vector: v, [n].
        function: f on eigenvalues [m], elementwise.
        steps: products at most; exact from the number of distinct eigenvalues in v on.
    """
    if not vector.norm() > 0.0:
        return torch.zeros_like(vector)
    V, T = lanczos(product, vector, steps)
    values, vectors = torch.linalg.eigh(T)
    return vector.norm() * (V @ (vectors @ (function(values) * vectors[0])))

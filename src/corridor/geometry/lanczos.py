"""Approximate a large symmetric matrix H in a small space, by Lanczos' method."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


def lanczos(product: Operator, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return an orthonormal Krylov basis V and the matrix T = V^T H V.

    Each new vector is made orthogonal to all earlier ones twice. Otherwise rounding would bring
    back directions that were found before. The method ends early if H maps the space into itself.

    Args:
        product: the map v -> Hv, with H symmetric.
        start: first vector [n], not 0.
        steps: maximum dimension m of the space, at least 1.

    Returns:
        V [n, m] and the tridiagonal T [m, m].

    Example:
        >>> H = torch.diag(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
        >>> V, T = lanczos(lambda v: H @ v, torch.ones(3, dtype=torch.float64), 3)
        >>> round(float(torch.linalg.eigvalsh(T)[-1]), 12)
        5.0

    Reference:
        Golub and Van Loan (2013), "Matrix Computations", chapter 10.
    """
    steps = min(steps, start.numel())
    basis = start.new_empty(steps + 1, start.numel())
    basis[0] = start / start.norm()
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for k in range(steps):
        w = product(basis[k])
        diagonal.append(basis[k] @ w)
        size = w.norm()
        for _ in range(2):
            w = w - basis[: k + 1].T @ (basis[: k + 1] @ w)
        length = w.norm()
        if not length > 100.0 * torch.finfo(w.dtype).eps * size:  # only rounding remains
            break
        beside.append(length)
        basis[k + 1] = w / length
    m = len(diagonal)
    T = torch.diag(torch.stack(diagonal))
    if m > 1:
        off = torch.stack(beside[: m - 1])
        T = T + torch.diag(off, 1) + torch.diag(off, -1)
    return basis[:m].T, T


def top_vector(product: Operator, start: Tensor, steps: int) -> Tensor:
    """Return the unit vector [n] with the largest ``u^T H u`` in a Krylov space.

    Args:
        product: the map v -> Hv.
        start: first vector [n], not 0.
        steps: maximum number of products.
    """
    V, T = lanczos(product, start, steps)
    u = V @ torch.linalg.eigh(T)[1][:, -1]
    return u / u.norm()  # V is orthonormal only up to rounding


def top_curvature(product: Operator, start: Tensor, steps: int = 20) -> float:
    """Return a lower bound of the largest eigenvalue of H, close to it after enough steps.

    Args:
        product: the map v -> Hv.
        start: first vector [n]. A fixed random vector replaces 0.
        steps: maximum number of products (default: 20).
    """
    if not start.norm() > 0.0:
        generator = torch.Generator(device=start.device).manual_seed(0)
        start = torch.randn(
            start.shape, generator=generator, dtype=start.dtype, device=start.device
        )
    _, T = lanczos(product, start, steps)
    return float(torch.linalg.eigvalsh(T)[-1])


def function_times(
    product: Operator, vector: Tensor, function: Callable[[Tensor], Tensor], steps: int = 30
) -> Tensor:
    """Return ``f(H) v``, computed as ``||v|| V f(T) e_1`` in the Krylov space of v.

    Args:
        product: the map u -> Hu.
        vector: v, [n].
        function: f, elementwise on eigenvalues [m].
        steps: maximum number of products (default: 30). The result is exact if `steps` is at least
            the number of distinct eigenvalues whose eigenvectors have a part in v.
    """
    if not vector.norm() > 0.0:
        return torch.zeros_like(vector)
    V, T = lanczos(product, vector, steps)
    values, vectors = torch.linalg.eigh(T)
    return vector.norm() * (V @ (vectors @ (function(values) * vectors[0])))

"""Approximate a large symmetric matrix H in a small space, by Lanczos' method."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


def lanczos(product: Operator, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return an orthonormal Krylov basis V and the matrix T = V^T H V.

    The method ends early if H maps the space into itself.

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
    V, T, _ = list(spaces(product, start, steps))[-1]
    return V, T


def spaces(
    product: Operator, start: Tensor, steps: int, held: int | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield V, T and the lengths beside the diagonal after each product; see `lanczos`.

    Each new vector is made orthogonal to all earlier ones twice. Otherwise rounding would bring
    back directions that were found before.

    Args:
        product: the map v -> Hv, with H symmetric.
        start: first vector [n], not 0.
        steps: maximum dimension of the space, at least 1.
        held: number of vectors to keep, at least 3 (default: all). T is still right, to rounding,
            but V is only a part.

    Yields:
        V [n, m], T [m, m] and m lengths. The last length is ``||H v - V V^T H v||``.
    """
    steps = min(steps, start.numel())
    rows = min(steps + 1, held or steps + 1)
    basis = start.new_empty(rows, start.numel())
    basis[0] = start / start.norm()
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for k in range(steps):
        known = basis[: k + 1]
        w = product(basis[k % rows])
        diagonal.append(basis[k % rows] @ w)
        size = w.norm()
        for _ in range(2):
            w = w - known.T @ (known @ w)
        beside.append(w.norm())
        T, lengths = torch.diag(torch.stack(diagonal)), torch.stack(beside)
        T = T + torch.diag(lengths[:-1], 1) + torch.diag(lengths[:-1], -1)
        yield known.T, T, lengths
        if not beside[-1] > 100.0 * torch.finfo(w.dtype).eps * size:  # only rounding remains
            return
        basis[(k + 1) % rows] = w / beside[-1]


def upper_bound(T: Tensor, lengths: Tensor, part: float) -> float:
    """Return a number that no eigenvalue of H exceeds, if the start has a part in its vector.

    The polynomials p_m with ``p_m(H) v_1 = v_(m+1)`` have ``p_m(t) = det(t - T) / prod(lengths)``.
    With the part c of v_1 along the eigenvector of ``lambda``, ``|c p_m(lambda)| <= 1``. Beyond
    the eigenvalues of T the polynomial rises, so lambda lies below ``p_m(t) = 1 / |c|``.

    Args:
        T: [m, m], from `spaces`.
        lengths: [m], from `spaces`.
        part: lower bound of ``|c|``, positive.

    Reference:
        Van Dorsselaer, Hochstenbach and van der Vorst (2000), "Computing Probabilistic Bounds for
        Extreme Eigenvalues of Symmetric Matrices with the Lanczos Method".
    """
    values = torch.linalg.eigvalsh(T.double())
    target = float(lengths.double().log().sum()) - math.log(part)
    low = high = float(values[-1])
    high += math.exp(min(target / len(values), 700.0))
    for _ in range(60):
        middle = 0.5 * (low + high)
        if float((middle - values).log().sum()) > target:
            high = middle
        else:
            low = middle
    return high


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

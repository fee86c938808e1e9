"""Approximate a large symmetric matrix H in a small space, by Lanczos' method."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


def lanczos(product: Operator, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return an orthonormal Krylov basis V [n, m] and T = V^T H V, with m at most `steps`.

    Example:
        >>> H = torch.diag(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
        >>> V, T = lanczos(lambda v: H @ v, torch.ones(3, dtype=torch.float64), 3)
        >>> round(float(torch.linalg.eigvalsh(T)[-1]), 12)
        5.0
    """
    V, T, _ = list(spaces(product, start, steps))[-1]
    return V, T


def spaces(
    product: Operator, start: Tensor, steps: int, held: int | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield V [n, m], T [m, m] and the m lengths beside the diagonal, after each product v -> Hv.

    The last length is ``||H v - V V^T H v||``. The method ends early if H maps the space into
    itself. With only `held` vectors, at least 3, T is still right to rounding, but V is a part.
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
        for _ in range(2):  # after one pass, rounding would bring back earlier directions
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
    the eigenvalues of T the polynomial rises, so lambda lies below ``p_m(t) = 1 / |c|``. A lower
    bound of ``|c|`` is `part`.
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
    """Return a lower bound of the largest eigenvalue of H, close to it after enough steps."""
    if not start.norm() > 0.0:
        generator = torch.Generator(device=start.device).manual_seed(0)
        start = start.clone().normal_(generator=generator)
    return float(torch.linalg.eigvalsh(lanczos(product, start, steps)[1])[-1])


def function_times(
    product: Operator, vector: Tensor, function: Callable[[Tensor], Tensor], steps: int = 30
) -> Tensor:
    """Return ``f(H) v``, computed as ``||v|| V f(T) e_1`` in the Krylov space of v.

    It is exact if `steps` is at least the number of eigenvalues whose vectors have a part in v.
    """
    if not vector.norm() > 0.0:
        return torch.zeros_like(vector)
    V, T = lanczos(product, vector, steps)
    values, vectors = torch.linalg.eigh(T)
    return vector.norm() * (V @ (vectors @ (function(values) * vectors[0])))

"""Compute closed forms that go beyond the paper, from a few numbers each.

In all functions `loss` is E, with the minimum 0, `norm_sq` is ``||g||^2``, and `rho` and
`rho_parallel` are the corridor number and its parallel part, as `corridor.measure` returns them.
h is the step size of CLR, ``E / ||g||^2``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from corridor.geometry.estimates import rho_parallel_from_logs


def riccati(H: Tensor, time: float) -> Tensor:
    """Return the Hessian along a corridor's flow, ``H(t) = H_0 (I - t H_0)^-1``.

    It solves ``H' = H^2``. H is the symmetric Hessian at the start, [n, n]. The `time` must be
    below the horizon ``1 / lambda_max(H_0)``.
    """
    top = float(torch.linalg.eigvalsh(H)[-1])
    if top * time >= 1.0:
        raise ValueError(f"time must be below the horizon {1.0 / top:g}, got {time:g}; reduce it")
    eye = torch.eye(len(H), dtype=H.dtype, device=H.device)
    return torch.linalg.solve(eye - time * H, H)


def power_rho(p: float) -> float:
    """Return the corridor number ``(p - 1) / (2 p)`` of ``||theta||^p``, for powers p >= 1."""
    return (p - 1.0) / (2.0 * p)


def power_loss_ratio(p: float) -> float:
    """Return ``E_1 / E_0 = ((p - 1) / p)^p`` for a CLR step on ``||theta||^p``, p >= 1."""
    return ((p - 1.0) / p) ** p


def logistic_rho(z: float) -> float:
    """Return the corridor number of ``ln(1 + exp(-z))`` at the classification margin z.

    It is ``ln(1 + u) / (2 u)`` with ``u = exp(-z)``. It tends to 0 for z to -inf, where the loss
    is a corridor, and to 1/2 in the exponential tail.
    """
    u = math.exp(-abs(z))
    if not u:
        return 0.5 if z > 0.0 else 0.0
    return 0.5 * (math.log1p(u) / u if z >= 0.0 else (math.log1p(u) - z) * u)


def quadratic_next_clr(rho_parallel: float, rho: float) -> float:
    """Return ``h_1 / h_0 = rho_par / (1 - 4 rho_par + 4 rho^2)`` for two CLR steps on a quadratic.

    Both corridor numbers are measured before the first step.
    """
    return rho_parallel / (1.0 - 4.0 * rho_parallel + 4.0 * rho**2)


def quadratic_distance_drop(loss: float, norm_sq: float, multiple: float = 1.0) -> float:
    """Return ``d_0^2 - d_1^2 = (4 m - m^2) E^2 / ||g||^2`` for m times a CLR step on a quadratic.

    d is the distance from the minimum. The drop is largest at m = 2, and positive for m < 4.
    """
    return (4.0 * multiple - multiple**2) * loss**2 / norm_sq


def halley_step(loss: float, norm_sq: float, rho_parallel: float) -> float:
    """Return ``CLR / (1 - rho_par)``, Halley's step for the root of E along -g, for rho_par < 1."""
    return loss / norm_sq / (1.0 - rho_parallel)


def quadratic_model_step(loss: float, norm_sq: float, rho_parallel: float) -> float:
    """Return the step size ``CLR * 2 / (1 + sqrt(1 - 4 rho_par))``.

    It leads to the first root of the quadratic model along -g, which exists for a parallel corridor
    number up to 1/4. It is exact on all quadratics, indefinite ones included.
    """
    if not rho_parallel <= 0.25:
        advice = "take halley_step, because the quadratic model has no root"
        raise ValueError(f"rho_parallel must be at most 1/4, got {rho_parallel:g}; {advice}")
    return loss / norm_sq * 2.0 / (1.0 + math.sqrt(1.0 - 4.0 * rho_parallel))


def degree_step(loss: float, norm_sq: float, rho_parallel: float) -> float:
    """Return the step size ``CLR / (1 - 2 rho_par)``, which is exact on every power law.

    The factor on CLR is the degree of the power law, for a parallel corridor number below 1/2.
    """
    if not rho_parallel < 0.5:
        raise ValueError(f"rho_parallel must be below 1/2, got {rho_parallel:g}; take halley_step")
    return loss / norm_sq / (1.0 - 2.0 * rho_parallel)


def clr_rate(rho_parallel: float) -> float:
    """Return the rate ``dh/dt = -1 + 4 rho_par`` along the gradient flow.

    CLR falls at the rate -1 in a corridor, is constant on isotropic quadratics, and rises exactly
    where the parallel corridor number exceeds 1/4.
    """
    return 4.0 * rho_parallel - 1.0


def rho_from_logs(losses: Tensor, norm_sq: Tensor) -> Tensor:
    """Return ``rho_par = 1/4 d ln||g||^2 / d ln E`` between successive points of a path, [k - 1].

    The losses are E minus its lower bound, [k].
    """
    found = rho_parallel_from_logs(losses.tolist(), norm_sq.sqrt().tolist(), window=2)
    return torch.tensor(found[1:]).to(losses)


def mean_rho(clr_start: float, clr_end: float, time: float) -> float:
    """Return the mean of rho_par over a gradient flow, ``1/4 (1 + (h_T - h_0) / T)``.

    The flow lasts the `time` T > 0, from the CLR h_0 to h_T. With a bounded CLR it tends to 1/4.
    """
    return 0.25 * (1.0 + (clr_end - clr_start) / time)


def exponential_sum_ratio(weights: Sequence[float], slopes: Sequence[float]) -> float:
    """Return ``E_1 / E_0 = sum p_i exp(-s_i / mean s)`` for a CLR step on ``sum a_i exp(-s_i t)``.

    The sum models cross-entropy along -g. The weights p_i are the shares of the terms in the loss.
    The ratio is at least 1/e. It exceeds 1 only if gradients conflict: a slope s_i is negative.
    """
    mean = sum(p * s for p, s in zip(weights, slopes, strict=True))
    return sum(p * math.exp(-s / mean) for p, s in zip(weights, slopes, strict=True))


def unaccounted_minimum(alpha: float, k: int, floor: float = 1.0, curvature: float = 1.0) -> float:
    """Return the k-th iterate of CLR on ``E* + 1/2 lambda x^2`` with f_star = 0.

    With the floor E* and the curvature lambda, it is ``x_k = sqrt(2 E* / lambda) cot(2^k alpha)``,
    the chaotic doubling map. alpha is the angle of the start x_0. The losses have a median, 2 E*,
    and no mean. CLR therefore needs a maximum step size and a good lower bound.
    """
    return math.sqrt(2.0 * floor / curvature) / math.tan(2.0**k * alpha)


def drift_bound(hg: float, step_size: float, time: float, least_curvature: float = 0.0) -> float:
    """Return a bound of the distance between gradient descent and the gradient flow.

    It is ``(h hg / 2) (e^(m T) - 1) / m`` with ``m = -lambda_min``. Convex: ``h hg T / 2``.

    Args:
        hg: upper bound of ``||Hg||`` along both paths.
        step_size: h, positive.
        time: T, positive.
        least_curvature: lambda_min, a lower bound of the Hessian's eigenvalues (default: 0).
    """
    rate = max(-least_curvature, 0.0)
    # expm1 keeps its digits for a small rate; its limit for rate 0 is the time.
    growth = time
    if rate:
        growth = math.expm1(rate * time) / rate if rate * time < 700.0 else math.inf
    return 0.5 * step_size * hg * growth

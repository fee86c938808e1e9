"""Formulas that go beyond the paper: pure functions of a few numbers, checked along flows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def riccati(H: Tensor, time: float) -> Tensor:
    """The Hessian along a corridor's flow, ``H(t) = H_0 (I - t H_0)^-1``, of ``H' = H^2``.

    Args:
        H: at the start, symmetric, [n, n].
        time: t, before the horizon ``1 / lambda_max(H_0)``.

    Raises:
        ValueError: the time lies at or beyond the horizon.

    Example:
        >>> riccati(torch.diag(torch.tensor([0.5, 0.0])), 1.0).diagonal().tolist()
        [1.0, 0.0]
    """
    top = float(torch.linalg.eigvalsh(H)[-1])
    if top * time >= 1.0:
        raise ValueError(f"time must lie before the horizon {1.0 / top:g}, got {time:g}")
    eye = torch.eye(len(H), dtype=H.dtype, device=H.device)
    return torch.linalg.solve(eye - time * H, H)


def power_rho(p: float) -> float:
    """Corridor number of ``||theta||^p``, ``(p - 1) / (2 p)``; its degree is p.

    Example:
        >>> power_rho(1.0), power_rho(2.0), power_rho(4.0)
        (0.0, 0.25, 0.375)
    """
    return (p - 1.0) / (2.0 * p)


def power_loss_ratio(p: float) -> float:
    """``E_1 / E_0 = ((p - 1) / p)^p`` of one CLR step on ``||theta||^p``.

    Example:
        >>> power_loss_ratio(1.0), power_loss_ratio(2.0)
        (0.0, 0.25)
    """
    return ((p - 1.0) / p) ** p


def logistic_rho(z: float) -> float:
    """Corridor number of ``ln(1 + exp(-z))``: ``ln(1 + u) / (2 u)``, ``u = exp(-z)``.

    0 far on the wrong side, where the loss is a corridor; 1/2 in the exponential tail.

    Example:
        >>> round(logistic_rho(0.0), 6), logistic_rho(-700.0) < 1e-300
        (0.346574, True)
    """
    u = math.exp(-z)
    return 0.5 * math.log1p(u) / u


def quadratic_next_clr(rho_parallel: float, rho: float) -> float:
    """``h_1 / h_0`` of two CLR steps on a quadratic, ``rho_par / (1 - 4 rho_par + 4 rho^2)``.

    Example:
        >>> quadratic_next_clr(0.25, 0.25)
        1.0
    """
    return rho_parallel / (1.0 - 4.0 * rho_parallel + 4.0 * rho**2)


def quadratic_distance_drop(loss: float, norm_sq: float, multiple: float = 1.0) -> float:
    """``d_0^2 - d_1^2 = (4 m - m^2) E^2 / ||g||^2`` of a step of m CLR on a quadratic.

    d is the distance to the minimum, which is 0. Best at m = 2, positive up to m = 4.

    Example:
        >>> quadratic_distance_drop(0.5, 1.0)  # theta = 1 to 1/2
        0.75
    """
    return (4.0 * multiple - multiple**2) * loss**2 / norm_sq


def halley_step(loss: float, norm_sq: float, rho_parallel: float) -> float:
    """``CLR / (1 - rho_par)``: Halley's step for the root of ``E(theta - s g)`` in s.

    Example:
        >>> halley_step(1.0, 2.0, 0.0)
        0.5
    """
    return loss / norm_sq / (1.0 - rho_parallel)


def quadratic_model_step(loss: float, norm_sq: float, rho_parallel: float) -> float:
    """``CLR * 2 / (1 + sqrt(1 - 4 rho_par))``: the first root of the quadratic model along -g.

    Exact on quadratics, indefinite ones too.

    Raises:
        ValueError: ``rho_par > 1/4``, where the model has no root.

    Example:
        >>> quadratic_model_step(0.5, 1.0, 0.25)  # the whole way on x^2 / 2 from 1
        1.0
    """
    if not rho_parallel <= 0.25:
        raise ValueError(f"the quadratic model has no root for rho_parallel {rho_parallel:g} > 1/4")
    return loss / norm_sq * 2.0 / (1.0 + math.sqrt(1.0 - 4.0 * rho_parallel))


def degree_step(loss: float, norm_sq: float, rho_parallel: float) -> float:
    """``CLR / (1 - 2 rho_par)``: CLR times the degree, exact on every power law.

    Raises:
        ValueError: ``rho_par >= 1/2``, where the loss falls slower than any power.

    Example:
        >>> degree_step(1.0, 4.0, power_rho(2.0))  # the whole way on x^2 from 1
        0.5
    """
    if not rho_parallel < 0.5:
        raise ValueError(f"rho_parallel must be below 1/2, got {rho_parallel:g}")
    return loss / norm_sq / (1.0 - 2.0 * rho_parallel)


def clr_rate(rho_parallel: float) -> float:
    """``dh/dt = -1 + 4 rho_par`` of ``h = E / ||g||^2`` along gradient flow.

    CLR decays at slope -1 in a corridor, is constant on isotropic quadratics, and warms up exactly
    where ``rho_par > 1/4``.

    Example:
        >>> clr_rate(0.0), clr_rate(0.25), clr_rate(0.5)
        (-1.0, 0.0, 1.0)
    """
    return 4.0 * rho_parallel - 1.0


def rho_from_logs(losses: Tensor, norm_sq: Tensor) -> Tensor:
    """``rho_par = 1/4 d ln||g||^2 / d ln E`` between neighbours of a run, without any Hessian.

    Args:
        losses: E above its lower bound, along a path, [k].
        norm_sq: ``||g||^2`` there, [k].

    Returns:
        [k - 1].

    Example:
        >>> E = torch.tensor([4.0, 1.0])
        >>> rho_from_logs(E, 2 * E)  # a quadratic
        tensor([0.2500])
    """
    return 0.25 * norm_sq.log().diff() / losses.log().diff()


def mean_rho(clr_start: float, clr_end: float, time: float) -> float:
    """Mean of rho_par over a time of gradient flow, ``1/4 (1 + (h_T - h_0) / T)``.

    A bounded CLR makes it tend to 1/4.
    """
    return 0.25 * (1.0 + (clr_end - clr_start) / time)


def exponential_sum_ratio(weights: Sequence[float], slopes: Sequence[float]) -> float:
    """``E_1 / E_0 = sum p_i exp(-s_i / mean s)`` of a CLR step on ``sum a_i exp(-s_i t)``.

    The model of cross-entropy along -g: never below 1/e; above 1, a rise, only if some slope is
    negative (gradient conflict).

    Args:
        weights: p_i, the terms' shares of the loss.
        slopes: s_i.

    Example:
        >>> round(exponential_sum_ratio([0.5, 0.5], [1.0, -0.2]), 3)
        0.865
    """
    mean = sum(p * s for p, s in zip(weights, slopes, strict=True))
    return sum(p * math.exp(-s / mean) for p, s in zip(weights, slopes, strict=True))


def unaccounted_minimum(alpha: float, k: int, floor: float = 1.0, curvature: float = 1.0) -> float:
    """CLR's k-th iterate on ``E* + 1/2 lambda x^2`` with f_star = 0: exact chaos.

    ``x_k = sqrt(2 E* / lambda) cot(2^k alpha)``: the doubling map, whose losses have the median
    2 E* and no mean. It is why CLR wants a cap and a lower bound.

    Args:
        alpha: of the start, ``x_0 = sqrt(2 E* / lambda) cot(alpha)``.
        k: the iterate.
        floor: E*, the part of the loss that f_star leaves out.
        curvature: lambda.

    Example:
        >>> round(unaccounted_minimum(math.pi / 4, 0), 12)
        1.414213562373
    """
    return math.sqrt(2.0 * floor / curvature) / math.tan(2.0**k * alpha)


def drift_bound(hg: float, step_size: float, time: float, least_curvature: float = 0.0) -> float:
    """How far gradient descent can drift from the flow where ``||Hg|| <= hg`` all along.

    ``(h hg / 2) (e^(m T) - 1) / m`` with ``m = -lambda_min``; ``h hg T / 2`` for convex losses.

    Args:
        hg: bound of ``||Hg||`` along both paths.
        step_size: h.
        time: T.
        least_curvature: lambda_min, a lower bound of the Hessian's eigenvalues.

    Example:
        >>> round(drift_bound(0.1, 0.2, 3.0), 12)
        0.03
    """
    rate = max(-least_curvature, 0.0)
    growth = math.expm1(rate * time) / rate if rate else time
    return 0.5 * step_size * hg * growth

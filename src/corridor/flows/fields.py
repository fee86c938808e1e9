"""Right-hand sides of the flows: the gradient's, and those of the modified losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from corridor.flows.space import FlatLoss, positive
from corridor.geometry import jet
from corridor.geometry.lanczos import function_times

Field: TypeAlias = Callable[[Tensor], Tensor]


def gradient(flat_loss: FlatLoss) -> Field:
    """Gradient flow, ``theta' = -g``."""
    return lambda x: -flat_loss.gradient(x)


def regularized(flat_loss: FlatLoss, step_size: float) -> Field:
    """Gradient descent's modified flow: ``theta' = -grad(E + h/4 ||g||^2) = -(g + h/2 Hg)``.

    Reference:
        Barrett and Dherin (2021), "Implicit Gradient Regularization".
    """
    h = positive("step_size", step_size)

    def field(x: Tensor) -> Tensor:
        g, Hg = slope_and_product(flat_loss, x)
        return -(g + 0.5 * h * Hg)

    return field


def heavy_ball(flat_loss: FlatLoss, step_size: float, momentum: float) -> Field:
    """The heavy ball's modified flow past its first steps.

    ``theta' = -grad(E + h (1 + beta) / (4 (1 - beta)^2) ||g||^2) / (1 - beta)``: a larger rate,
    and gradient descent's regularization at that rate times ``1 + beta``.

    Reference:
        Ghosh, Lyu, Zhang and Wang (2023), "Implicit Regularization in Heavy-Ball Momentum
        Accelerated Stochastic Gradient Descent".
    """
    h = positive("step_size", step_size)
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
    weight = h * (1.0 + momentum) / (2.0 * (1.0 - momentum) ** 2)

    def field(x: Tensor) -> Tensor:
        g, Hg = slope_and_product(flat_loss, x)
        return -(g + weight * Hg) / (1.0 - momentum)

    return field


def shuffled(flat_loss: FlatLoss, batches: Sequence[FlatLoss], step_size: float) -> Field:
    """SGD's modified flow in expectation over the orders of m batches.

    ``theta' = -grad(E + h/4 ||g||^2 + h/(4 m) sum_i ||g_i - g||^2)``; as the two penalties sum to
    ``h/(4 m) sum_i ||g_i||^2`` this is ``-(1/m) sum_i (g_i + h/2 H_i g_i)``.

    Reference:
        Smith, Dherin, Barrett and De (2021), "On the Origin of Implicit Regularization in
        Stochastic Gradient Descent".
    """
    h = positive("step_size", step_size)

    def field(x: Tensor) -> Tensor:
        parts = [slope_and_product(batch, x) for batch in batches]
        flat_loss.gradients = sum(batch.gradients for batch in batches)
        return -torch.stack([g + 0.5 * h * Hg for g, Hg in parts]).mean(0)

    return field


def principal(flat_loss: FlatLoss, step_size: float, krylov: int = 30) -> Field:
    """The principal flow: ``theta' = sum_i log(1 - h l_i) / (h l_i) (u_i . g) u_i``.

    Exact for gradient descent on quadratics. The eigenvalues l_i and vectors u_i are those of the
    Hessian in the Krylov space of g, all of it where n does not exceed `krylov`.

    Raises:
        ValueError: on the way, where ``h l_i >= 1`` makes the flow complex.

    Reference:
        Rosca, Wu, Qin and Dherin (2023), "On a Continuous Time Model of Gradient Descent Dynamics
        and Instability in Deep Learning".
    """
    h = positive("step_size", step_size)

    def factor(values: Tensor) -> Tensor:
        scaled = h * values
        top = float(scaled.max())
        if top >= 1.0:
            raise ValueError(
                f"the principal flow is real only below step size 1 / lambda_max; step_size {h:g} "
                f"times curvature {top / h:g} is {top:g}"
            )
        small = scaled.abs() < 1e-8
        safe = torch.where(small, torch.full_like(scaled, 0.5), scaled)
        return torch.where(small, 1.0 + scaled / 2.0, -torch.log1p(-safe) / safe)

    def field(x: Tensor) -> Tensor:
        g, product = flat_loss.product(x)
        return -function_times(product, g, factor, krylov)

    return field


def slope_and_product(flat_loss: FlatLoss, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and Hg at a flat vector; three gradients' worth."""
    flat_loss.gradients += 3
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        found = jet(lambda: flat_loss.value(leaf), [leaf], allow_nonfinite=True)
    return found.gradient[0], found.hessian_gradient[0]

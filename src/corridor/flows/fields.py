"""Define the velocities of the modified flows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from corridor.flows.methods import Field
from corridor.flows.space import FlatLoss, momentum_factor, number, recorded
from corridor.geometry import jet
from corridor.geometry.lanczos import function_times


def regularized(flat_loss: FlatLoss, step_size: float, momentum: float = 0.0) -> Field:
    """Return the velocity of the heavy ball's modified flow, valid after its first steps.

    It is ``-grad(E + h (1 + beta) / (4 (1 - beta)^2) ||g||^2) / (1 - beta)``. Without momentum, it
    is the velocity of gradient descent's modified flow, ``-grad(E + h/4 ||g||^2)``.

    Reference:
        Barrett and Dherin (2021), "Implicit Gradient Regularization".
        Ghosh, Lyu, Zhang and Wang (2023), "Implicit Regularization in Heavy-Ball Momentum
        Accelerated Stochastic Gradient Descent".
    """
    h, left = number("step_size", step_size, "positive"), 1.0 - momentum_factor(momentum)
    weight = h * (2.0 - left) / (2.0 * left**2)

    def field(x: Tensor) -> Tensor:
        # The gradient costs one gradient and Hg costs two.
        flat_loss.gradients += 3
        with recorded(x) as leaf:
            # Stages of the solver may leave the domain; the solver then takes a shorter step.
            found = jet(lambda: flat_loss.value(leaf), [leaf], allow_nonfinite=True)
        return -(found.gradient[0] + weight * found.hessian_gradient[0]) / left

    return field


def shuffled(flat_loss: FlatLoss, batches: Sequence[FlatLoss], step_size: float) -> Field:
    """Return the velocity of SGD's modified flow, averaged over the orders of m batches.

    It is ``-grad(E + h/4 ||g||^2 + h/(4 m) sum_i ||g_i - g||^2)``, which equals
    ``-(1/m) sum_i (g_i + h/2 H_i g_i)``. `flat_loss.gradients` becomes the cost of all batches.

    Reference:
        Smith, Dherin, Barrett and De (2021), "On the Origin of Implicit Regularization in
        Stochastic Gradient Descent".
    """
    parts = [regularized(batch, step_size) for batch in batches]

    def field(x: Tensor) -> Tensor:
        velocity = torch.stack([part(x) for part in parts]).mean(0)
        flat_loss.gradients = sum(batch.gradients for batch in batches)
        return velocity

    return field


def principal(flat_loss: FlatLoss, step_size: float, krylov: int = 30) -> Field:
    """Return the velocity of the principal flow, ``sum_i log(1 - h l_i) / (h l_i) (u_i . g) u_i``.

    The eigenvalues l_i and eigenvectors u_i belong to the Hessian in a Krylov space of g. Where
    ``h l_i >= 1`` the velocity would be complex, and the field raises a ValueError.

    Reference:
        Rosca, Wu, Qin and Dherin (2023), "On a Continuous Time Model of Gradient Descent Dynamics
        and Instability in Deep Learning".
    """
    h = number("step_size", step_size, "positive")

    def factor(values: Tensor) -> Tensor:
        scaled = h * values
        top = float(scaled.max())
        if top >= 1.0:
            need = f"step_size must be below 1 / lambda_max = {h / top:g} for the principal flow"
            raise ValueError(f"{need}, got {h:g}; take a smaller step size")
        # log(1 - s) / s is 0/0 at s = 0; its series replaces it there.
        series, logarithm = 1.0 + scaled / 2.0, -torch.log1p(-scaled) / scaled
        return torch.where(scaled.abs() < 1e-8, series, logarithm)

    def field(x: Tensor) -> Tensor:
        g, product = flat_loss.product(x)
        return -function_times(product, g, factor, krylov)

    return field

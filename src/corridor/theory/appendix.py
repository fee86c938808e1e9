"""Check appendices A and C: momentum, Runge-Kutta, SGD over shuffled batches, quadratics.

`loss` is a function of a tensor that returns a scalar tensor. `losses` holds one loss per batch of
SGD. The `start` is a point, in a corridor for all statements about momentum and Runge-Kutta.
`step_size` is h, positive, `momentum` is beta, in [0, 1), and `steps` or n is the number of steps.
The heavy ball starts with the velocity ``v_0 = -aligned g``, at rest by default.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from corridor import flows
from corridor.flows import gradient_flow, heavy_ball, mean_loss
from corridor.flows.space import Loss, starting_at
from corridor.theory.corridors import TINY, Check, begin, farthest, precise, rounding


def momentum_velocity(n: int, step_size: float, momentum: float, *, aligned: float = 0.0) -> float:
    """Return the factor c of the heavy ball's velocity ``v_n = -c g`` in a corridor (equation 7).

    It is ``c = aligned beta^n + h (1 - beta^n) / (1 - beta)``.
    """
    grown = momentum**n
    return aligned * grown + step_size * (1.0 - grown) / (1.0 - momentum)


def momentum_distance(n: int, step_size: float, momentum: float, *, aligned: float = 0.0) -> float:
    """Return the factor c of the heavy ball's position ``theta_n = theta_0 - c g`` in a corridor.

    It is ``h (n / (1 - beta) - beta (1 - beta^n) / (1 - beta)^2) + aligned beta (1 - beta^n) /
    (1 - beta)``, the sum of the velocities.
    """
    rest, grown = 1.0 - momentum, momentum**n
    own = step_size * (n / rest - momentum * (1.0 - grown) / rest**2)
    return own + aligned * momentum * (1.0 - grown) / rest


def lemma_a_1(
    loss: Loss,
    start: Tensor,
    step_size: float,
    momentum: float,
    steps: int,
    *,
    aligned: float = 0.0,
) -> Check:
    """Check that the heavy ball in a corridor follows the flow lines, at the speed of equation 7.

    The whole path must stay inside the corridor.
    """
    start = precise(loss, start)
    _, x, g = begin(loss, start)
    rows = heavy_ball(loss, start, step_size, steps, momentum=momentum, velocity=aligned).flat()
    closed = [
        [c(n, step_size, momentum, aligned=aligned) for n in range(len(rows))]
        for c in (momentum_distance, momentum_velocity)
    ]
    distances, speeds = torch.tensor(closed, dtype=torch.float64).to(g)
    off = farthest(rows, x - distances[:, None] * g)
    wrong = farthest(rows[1:] - rows[:-1], -speeds[1:, None] * g)
    length = max(float(distances[-1] * g.norm()), TINY)
    return Check("lemma A.1, momentum's closed form", max(off, wrong) / length, rounding(start))


def momentum_flow(
    loss: Loss, start: Tensor, step_size: float, momentum: float, steps: int
) -> Tensor:
    """Return the flow of equation 12 at the times n h, as rows [steps + 1, numel].

    Its velocity is ``-(1 - beta^n) / (1 - beta) g`` on the n-th interval of length h.
    """
    rows = [start.reshape(-1)]
    for n in range(1, steps + 1):
        # A flow at a multiple of the speed is the plain flow for a multiple of the time.
        speed = (1.0 - momentum**n) / (1.0 - momentum)
        path = gradient_flow(loss, rows[-1].reshape(start.shape), speed * step_size)
        rows.append(path.flat()[-1])
    return torch.stack(rows)


def remark_a_3(loss: Loss, start: Tensor, step_size: float, momentum: float, steps: int) -> Check:
    """Check that the flow of equation 12 in a corridor equals the heavy ball from rest."""
    start = precise(loss, start)
    ball = heavy_ball(loss, start, step_size, steps, momentum=momentum).flat()
    flow = momentum_flow(loss, start, step_size, momentum, steps)
    length = max(float((ball[-1] - ball[0]).norm()), TINY)
    distance = farthest(ball, flow) / length
    return Check("remark A.3, momentum's piecewise flow", distance, rounding(start))


def misaligned_displacement(
    loss: Loss, start: Tensor, velocity: Tensor, step_size: float, momentum: float, steps: int
) -> float:
    """Return the largest distance of a heavy ball from the line of steepest descent (remark A.2).

    The initial `velocity` is shaped like the start.
    """
    _, x, g = begin(loss, start)
    path = heavy_ball(loss, start, step_size, steps, momentum=momentum, velocity=velocity)
    away = path.flat() - x
    across = away - torch.outer(away @ g, g) / g.square().sum()
    return float(across.norm(dim=1).max())


def appendix_a_2(
    loss: Loss, start: Tensor, step_size: float, steps: int = 1, *, method: str = "rk4"
) -> Check:
    """Check that a Runge-Kutta method in a corridor steps along the flow.

    The paper proves it for RK4. It holds for every method with ``sum b = 1``, because all later
    elementary differentials vanish in a corridor. `method` is a key of `corridor.flows.TABLES`.
    """
    start = precise(loss, start)
    _, x, g = begin(loss, start)
    end = flows.runge_kutta(loss, start, step_size, steps, method=method).flat()[-1]
    exact = x - step_size * steps * g
    scale = float(x.norm()) + float((exact - x).norm())
    distance = float((end - exact).norm())
    name = f"appendix A.2, {method} steps on the flow"
    return Check(name, distance, rounding(start, 1e-14) * scale)


def appendix_a_3(
    losses: Sequence[Loss], start: Tensor, step_sizes: Sequence[float] = (4e-2, 2e-2, 1e-2, 5e-3)
) -> Check:
    """Check that the mean epoch of SGD follows the modified flow (equation 20) to order 3 in h.

    There are at most 8 batches, and each step size is half of the one before.

    Returns:
        The check that the "order" of convergence at the smallest steps is 3, with the "order
        without" for the plain gradient flow.

    Reference:
        Smith, Dherin, Barrett and De (2021), "On the Origin of Implicit Regularization in
        Stochastic Gradient Descent".
    """
    start = precise(mean_loss(losses), start)
    if start.dtype is not torch.float64:
        raise ValueError(f"losses must accept float64, got only {start.dtype}; convert their data")
    m = len(losses)
    modified, plain = [], []
    for h in step_sizes:
        end = flows.mean_epoch(losses, start, h)
        flow = flows.modified_flow(losses, start, m * h, 1e-12, kind="sgd", step_size=h)
        modified.append(float((end - flow.flat()[-1]).norm()))
        flow = gradient_flow(mean_loss(losses), start, m * h, 1e-12)
        plain.append(float((end - flow.flat()[-1]).norm()))
    order, without = (math.log2(errors[-2] / errors[-1]) for errors in (modified, plain))
    detail = {"order": order, "order without": without}
    return Check("appendix A.3, SGD's modified flow", abs(order - 3.0), 0.2, detail)


def batch_gradient_identity(losses: Sequence[Loss], point: Tensor) -> Check:
    """Check ``mean ||g_i||^2 = ||g||^2 + mean ||g_i - g||^2``, the penalties of equation 20."""
    point = precise(mean_loss(losses), point)
    rows = torch.stack([starting_at(one, point).gradient(point.reshape(-1)) for one in losses])
    g = rows.mean(0)
    left = rows.square().sum(1).mean()
    right = g.square().sum() + (rows - g).square().sum(1).mean()
    difference = float((left - right).abs() / left)
    return Check("appendix A.3, the penalties' identity", difference, rounding(point, 1e-14))


def kantorovich(condition: float) -> float:
    """Return the largest parallel corridor number of quadratics, ``(k + 1)^2 / (16 k)``.

    For condition numbers k above ``7 + 4 sqrt(3)`` it exceeds 1, and a CLR step can raise E.

    Example:
        >>> kantorovich(1.0), round(kantorovich(7 + 4 * 3**0.5), 12)
        (0.25, 1.0)
    """
    if not condition >= 1.0:
        raise ValueError(f"condition must be at least 1, got {condition}; swap the eigenvalues")
    return (condition + 1.0) ** 2 / (16.0 * condition)


def appendix_c(matrix: Tensor, slope: Tensor, points: Tensor) -> Check:
    """Check that a quadratic with ``M != 0`` has ``Hg != 0`` at random points.

    ``Hg = M (M theta + b) = 0`` on an open set would give ``M^2 = 0``, and so ``M = 0``.
    The number is the fraction of the points [k, n] with ``||Hg|| < 1e-12``. The matrix M is
    symmetric, [n, n], and the slope is b, [n].
    """
    Hg = (points @ matrix + slope) @ matrix
    fraction = float((Hg.norm(dim=1) < 1e-12).double().mean())
    return Check("appendix C, quadratics have no corridors", fraction, 0.0)

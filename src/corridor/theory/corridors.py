"""Section 2 and theorem 3.1 as checks that can be run on any loss from any start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from corridor.flows import gradient_descent, gradient_flow
from corridor.flows.discrete import first_kink
from corridor.flows.space import Loss, starting_at
from corridor.geometry.lanczos import top_curvature
from corridor.theory.check import Check


def lemma_2_8(loss: Loss, start: Tensor, delta: float = 1e-4) -> Check:
    """Along the flow ``d/dt g(theta(t)) = -Hg``: the difference quotient against the product.

    The relative error is of order delta, with a constant that is the loss's.

    Args:
        loss: of a tensor; returns a scalar.
        start: where ``Hg`` is not 0.
        delta: time step of the quotient.

    Raises:
        ValueError: ``Hg = 0`` at the start, where there is nothing to compare.

    Example:
        >>> from corridor.surfaces import LogSumExp
        >>> bool(lemma_2_8(LogSumExp(), torch.tensor([0.3, -0.5], dtype=torch.float64)))
        True
    """
    flat_loss = starting_at(loss, start)
    x = flat_loss.space.start
    g, product = flat_loss.product(x)
    Hg = product(g)
    if not Hg.norm() > 0.0:
        raise ValueError("Hg is 0 at the start; the lemma is checked where it is not")
    later = gradient_flow(loss, start, delta, tolerance=1e-13).flat()[-1]
    quotient = (flat_loss.gradient(later) - g) / delta
    error = float((quotient + Hg).norm() / Hg.norm())
    return Check("lemma 2.8, d/dt g = -Hg along the flow", error, 20.0 * delta)


def lemma_2_9(loss: Loss, start: Tensor, time: float, samples: int = 9) -> Check:
    """In a corridor ``theta(t) = theta_0 - t g(theta_0)``, with one gradient all along the line.

    Args:
        loss: of a tensor; returns a scalar.
        start: in the corridor.
        time: how long the line is followed; it must stay a solution.
        samples: points along it.
    """
    flat_loss = starting_at(loss, start)
    x = flat_loss.space.start
    g = flat_loss.gradient(x)
    times = torch.linspace(0.0, time, samples, dtype=torch.float64).tolist()
    path = gradient_flow(loss, start, time, at=times)
    rows = path.flat()
    line = torch.stack([x - t * g for t in times])
    turned = max(float((flat_loss.gradient(row) - g).norm()) for row in rows)
    size = float(g.norm())
    return Check(
        "lemma 2.9, straight flow lines with one gradient",
        max(float((rows - line).norm(dim=1).max()) / max(size * time, 1e-300), turned / size),
        1e-12,
        {
            "gradient drift": turned,
            "distance from the line": float((rows - line).norm(dim=1).max()),
        },
    )


def proposition_2_10(loss: Loss, start: Tensor, time: float, samples: int = 33) -> Check:
    """In a corridor the loss falls linearly along the flow, ``E(t) = E_0 - t ||g||^2``.

    Args:
        loss: of a tensor; returns a scalar.
        start: in the corridor.
        time: how long the flow is followed.
        samples: points along it.

    Returns:
        The largest distance from the line over the fall; 1 - R^2 of a linear fit in the detail.
    """
    flat_loss = starting_at(loss, start)
    _, g = flat_loss.slope(flat_loss.space.start)
    times = torch.linspace(0.0, time, samples, dtype=torch.float64)
    path = gradient_flow(loss, start, time, at=times.tolist())
    fall = float(g.square().sum())
    line = path.losses[0] - times * fall
    scale = max(fall * time, 1e-300)
    centred = times - times.mean()
    values = path.losses - path.losses.mean()
    fit = centred * (centred @ values) / centred.square().sum()
    unexplained = float((values - fit).square().sum() / values.square().sum().clamp(min=1e-300))
    return Check(
        "proposition 2.10, the loss falls linearly",
        float((path.losses - line).abs().max()) / scale,
        1e-12,
        {"unexplained variance": unexplained},
    )


def horizon(loss: Loss, start: Tensor, *, krylov: int = 40) -> float:
    """How long a corridor can last from a point: ``1 / lambda_max(H)``.

    Inf where H has no positive eigenvalue. Along the flow of a corridor ``H' = H^2``, so that
    ``H(t) = H_0 (I - t H_0)^-1`` blows up then: flow lines meet at a focal point. A step inside a
    corridor has ``h lambda_max <= 1``, half the edge of stability.

    Args:
        loss: of a tensor; returns a scalar.
        start: the point.
        krylov: Hessian products at most; exact in as many dimensions.

    Example:
        >>> from corridor.surfaces import Cone
        >>> round(horizon(Cone(), torch.tensor([3.0, 4.0], dtype=torch.float64)), 12)
        5.0
    """
    flat_loss = starting_at(loss, start)
    x = flat_loss.space.start
    g, product = flat_loss.product(x)
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    top = top_curvature(product, probe, krylov)
    small = torch.finfo(x.dtype).eps ** 0.75 * float(g.norm())
    return 1.0 / top if top > small else math.inf


def theorem_3_1(loss: Loss, start: Tensor, step_size: float, steps: int) -> Check:
    """In a corridor gradient descent steps on the flow: ``theta_n = theta(n h)``.

    It holds up to the time when the flow first meets a kink or an edge; endpoints inside the
    corridor do not suffice (subtlety S4), so that the segments are walked.

    Args:
        loss: of a tensor; returns a scalar.
        start: in the corridor.
        step_size: h.
        steps: n.

    Returns:
        The largest distance at equal times over the path's length; in the detail "exit time", inf
        if no segment meets a kink that the loss knows of.

    Example:
        >>> from corridor.surfaces import Cone
        >>> x = torch.tensor([3.0, 4.0], dtype=torch.float64)
        >>> bool(theorem_3_1(Cone(), x, 0.5, 9)), theorem_3_1(Cone(), x, 7.0, 1).detail
        (True, {'exit time': 5.0})
    """
    descent = gradient_descent(loss, start, step_size, steps)
    left = descent.exit_time
    detail = {"exit time": math.inf if left is None else round(left, 6)}
    if left is not None and left < step_size * steps * (1.0 - 1e-9):
        return Check("theorem 3.1, gradient descent steps on the flow", math.inf, 1e-12, detail)
    flow = gradient_flow(loss, start, step_size * steps, at=descent.times)
    ours = descent.flat()[: len(flow)]
    length = float((ours[1:] - ours[:-1]).norm(dim=1).sum())
    distance = float((ours - flow.flat()).norm(dim=1).max())
    measured = distance / max(length, 1e-300)
    return Check("theorem 3.1, gradient descent steps on the flow", measured, 1e-12, detail)


def theorem_3_1_converse(
    loss: Loss, start: Tensor, step_sizes: Sequence[float] = (4e-3, 2e-3, 1e-3)
) -> Check:
    """Off corridors one step leaves the flow by ``h^2/2 Hg``, to leading order.

    Args:
        loss: of a tensor; returns a scalar.
        start: where ``Hg`` is not 0.
        step_sizes: at least two, falling; one alone proves nothing (subtlety S5).

    Returns:
        The deviation of the log-log slope from 2; slope and the ratio of the measured to the
        predicted coefficient at the smallest step in the detail.

    Raises:
        ValueError: fewer than two step sizes, or ``Hg = 0`` at the start.
    """
    if len(step_sizes) < 2:
        raise ValueError("one step size is not enough; give at least two")
    flat_loss = starting_at(loss, start)
    x = flat_loss.space.start
    g, product = flat_loss.product(x)
    Hg = product(g)
    if not Hg.norm() > 0.0:
        raise ValueError("Hg is 0 at the start; the converse is checked where it is not")
    gaps = []
    for h in step_sizes:
        flow = gradient_flow(loss, start, h, tolerance=1e-13).flat()[-1]
        gaps.append(float((flow - (x - h * g)).norm()))
    slope = math.log(gaps[0] / gaps[-1]) / math.log(step_sizes[0] / step_sizes[-1])
    ratio = gaps[-1] / (0.5 * step_sizes[-1] ** 2 * float(Hg.norm()))
    return Check(
        "theorem 3.1, converse: drift h^2/2 Hg",
        abs(slope - 2.0),
        0.05,
        {"slope": slope, "coefficient over prediction": ratio},
    )


def stays_inside(loss: Loss, start: Tensor, step_size: float) -> bool:
    """Whether the segment of a gradient step keeps clear of kinks, by the domain the loss knows.

    For a loss without a domain the gradient is compared along the segment: in a corridor it is
    constant there.
    """
    flat_loss = starting_at(loss, start)
    x = flat_loss.space.start
    g = flat_loss.gradient(x)
    end = x - step_size * g
    if flat_loss.margin(x) is not None:
        return first_kink(flat_loss, x, end) is None
    parts = torch.linspace(0.0, 1.0, 17, dtype=torch.float64).tolist()[1:]
    turned = max(float((flat_loss.gradient(x + p * (end - x)) - g).norm()) for p in parts)
    return turned <= torch.finfo(x.dtype).eps ** 0.6 * float(g.norm())

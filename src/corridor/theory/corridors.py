"""Check section 2 and theorem 3.1 of the paper on any loss from any start.

In all checks `loss` is a function of a tensor that returns a scalar tensor. The `start` is a point
in a corridor, unless the check states otherwise. A flow lasts a positive `time`, and has `samples`
points, both ends included. `step_size` is h, positive, and `steps` is the number of steps.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from corridor import _tree
from corridor.flows import gradient_descent, gradient_flow
from corridor.flows.discrete import first_kink
from corridor.flows.space import FlatLoss, Loss, starting_at
from corridor.geometry.lanczos import top_curvature

TINY = 1e-300  # keeps ratios finite for paths without length


def precise(loss: Loss, start: Tensor) -> Tensor:
    """Return a start in float64 if the loss accepts it, because float32 hides small distances."""
    # A loss that contains tensors of another dtype raises a RuntimeError.
    with torch.no_grad(), suppress(RuntimeError):
        loss(start.detach().double())
        return start.detach().double()
    return start


def begin(loss: Loss, start: Tensor) -> tuple[FlatLoss, Tensor, Tensor]:
    """Return a loss on flat vectors, the start as one of them, and the gradient there."""
    flat_loss = starting_at(loss, start)
    return flat_loss, flat_loss.start, flat_loss.gradient(flat_loss.start)


def farthest(rows: Tensor, others: Tensor) -> float:
    """Return the largest distance between rows with equal indices."""
    return float((rows - others).norm(dim=1).max())


def rounding(start: Tensor, bound: float = 1e-12) -> float:
    """Return a bound of errors that are rounding alone, from the bound for float64."""
    return bound * torch.finfo(start.dtype).eps / torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Check:
    """Compare a number with its bound; true if the statement holds.

    Attributes:
        statement: short name of the statement, with its number in the paper.
        measured: number that must not exceed the bound.
        bound: largest number at which the statement holds.
        detail: further numbers by name (default: none).
    """

    statement: str
    measured: float
    bound: float
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Return True if the number does not exceed the bound."""
        return self.measured <= self.bound

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "does not hold"
        return f"{self.statement}: {verdict} ({self.measured:.3g}, bound {self.bound:.3g})"


def flow_at(loss: Loss, start: Tensor, times: Sequence[float]) -> tuple[Tensor, Tensor] | None:
    """Return the flow's points, as rows, and losses at ordered times; None if it ends earlier."""
    flow = gradient_flow(loss, start, times[-1], dense=True)
    if float(flow.times[-1]) < times[-1] * (1.0 - 1e-12):
        return None
    flat_loss, rows = FlatLoss(loss, start), torch.stack([flow.at(t).reshape(-1) for t in times])
    return rows, torch.tensor([flat_loss.number(row) for row in rows], dtype=torch.float64)


def lemma_2_8(loss: Loss, start: Tensor, delta: float = 1e-4) -> Check:
    """Check that the gradient changes at the rate ``d/dt g(theta(t)) = -Hg`` along the flow.

    The start needs ``Hg != 0``. The error is proportional to delta, the time step of a quotient.
    """
    start = precise(loss, start)
    flat_loss, g, Hg = _bent(loss, start)
    # The quotient divides the error of the flow by delta, so the flow must be accurate.
    later = gradient_flow(loss, start, delta, tolerance=1e-13).flat()[-1]
    quotient = (flat_loss.gradient(later) - g) / delta
    error = float((quotient + Hg).norm() / Hg.norm())
    # The next term of the quotient is delta/2 times the second derivative of g along the flow.
    return Check("lemma 2.8, d/dt g = -Hg along the flow", error, 20.0 * delta)


def _bent(loss: Loss, start: Tensor) -> tuple[FlatLoss, Tensor, Tensor]:
    """Return the loss on flat vectors, g and Hg, or raise a ValueError if Hg is 0."""
    flat_loss = starting_at(loss, start)
    g, product = flat_loss.product(flat_loss.start)
    Hg = product(g)
    if not Hg.norm() > 0.0:
        raise ValueError("start must have Hg != 0, got Hg = 0; choose a start outside corridors")
    return flat_loss, g, Hg


def lemma_2_9(loss: Loss, start: Tensor, time: float, samples: int = 9) -> Check:
    """Check that a flow in a corridor is ``theta_0 - t g(theta_0)``, with a constant gradient.

    The line must stay inside the corridor: no flow that ends earlier fulfills it. The detail
    contains both errors by name.
    """
    start = precise(loss, start)
    flat_loss, x, g = begin(loss, start)
    times = torch.linspace(0.0, time, samples, dtype=torch.float64).tolist()
    flow, away, change = flow_at(loss, start, times), math.inf, math.inf
    if flow is not None:
        away = farthest(flow[0], torch.stack([x - t * g for t in times]))
        change = max(float((flat_loss.gradient(row) - g).norm()) for row in flow[0])
    speed = float(g.norm())
    measured = max(away / max(speed * time, TINY), change / speed)
    detail = {"gradient change": change, "distance from the line": away}
    name = "lemma 2.9, straight flow lines with one gradient"
    return Check(name, measured, rounding(start), detail)


def proposition_2_10(loss: Loss, start: Tensor, time: float, samples: int = 33) -> Check:
    """Check that the loss falls linearly along a flow in a corridor, ``E(t) = E_0 - t ||g||^2``.

    Returns:
        The check of the largest distance from the line, divided by the total fall, with
        "unexplained variance", which is 1 - R^2 of a linear fit.
    """
    start = precise(loss, start)
    fall = float(begin(loss, start)[2].square().sum())
    times = torch.linspace(0.0, time, samples, dtype=torch.float64)
    flow, away, unexplained = flow_at(loss, start, times.tolist()), math.inf, math.inf
    if flow is not None:
        losses = flow[1]
        away = float((losses - (losses[0] - times * fall)).abs().max())
        centered, values = times - times.mean(), losses - losses.mean()
        fit = centered * (centered @ values) / centered.square().sum()
        unexplained = float((values - fit).square().sum() / values.square().sum().clamp(min=TINY))
    measured, detail = away / max(fall * time, TINY), {"unexplained variance": unexplained}
    return Check("proposition 2.10, the loss falls linearly", measured, rounding(start), detail)


def horizon(loss: Loss, start: Tensor, *, krylov: int = 40) -> float:
    """Return the time after which a corridor must have ended, ``1 / lambda_max(H)``.

    It is inf if H has no positive eigenvalue. The Hessian along the flow, `beyond.riccati`,
    diverges at the horizon. `krylov` is the maximum number of Hessian products, and the maximum
    number of dimensions for an exact result.

    Example:
        >>> from corridor.surfaces import Cone
        >>> round(horizon(Cone(), torch.tensor([3.0, 4.0], dtype=torch.float64)), 12)
        5.0
    """
    flat_loss = starting_at(loss, start)
    x = flat_loss.start
    g, product = flat_loss.product(x)
    # In a corridor Hg = 0, so the gradient cannot be the first Krylov vector.
    generator = _tree.seeded(0)
    probe = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    top = top_curvature(product, probe, krylov)
    # Rounding leaves a corridor of constant slope with a tiny curvature instead of 0.
    small = torch.finfo(x.dtype).eps ** 0.75 * float(g.norm())
    return 1.0 / top if top > small else math.inf


def theorem_3_1(loss: Loss, start: Tensor, step_size: float, steps: int) -> Check:
    """Check that gradient descent in a corridor steps along the flow, ``theta_n = theta(n h)``.

    The statement holds until the flow first meets a kink or an edge. Iterates inside the corridor
    are not sufficient (S4 on the theory pages), so the check walks along the segments between them.

    The check does not hold if the flow ends earlier.

    Returns:
        The check of the largest distance at equal times, divided by the length of the path, with
        "exit time", which is inf if no segment meets a kink of the domain.

    Example:
        >>> from corridor.surfaces import Cone
        >>> x = torch.tensor([3.0, 4.0], dtype=torch.float64)
        >>> bool(theorem_3_1(Cone(), x, 0.5, 9)), theorem_3_1(Cone(), x, 7.0, 1).detail
        (True, {'exit time': 5.0})
    """
    start = precise(loss, start)
    descent = gradient_descent(loss, start, step_size, steps)
    left = math.inf if descent.exit_time is None else descent.exit_time
    measured = math.inf
    reaches = left >= step_size * steps * (1.0 - 1e-9)
    flow = flow_at(loss, start, descent.times.tolist()) if reaches else None
    if flow is not None:
        ours = descent.flat()
        length = float((ours[1:] - ours[:-1]).norm(dim=1).sum())
        measured = farthest(ours, flow[0]) / max(length, TINY)
    name = "theorem 3.1, gradient descent steps on the flow"
    return Check(name, measured, rounding(start), {"exit time": round(left, 6)})


def theorem_3_1_converse(
    loss: Loss, start: Tensor, step_sizes: Sequence[float] = (4e-3, 2e-3, 1e-3)
) -> Check:
    """Check that one step leaves the flow by ``h^2/2 Hg`` outside corridors, to leading order.

    The start needs ``Hg != 0``. The step sizes fall, because a single step proves nothing (S5).

    Returns:
        The check that the log-log slope is 2, with the last "coefficient over prediction".
    """
    if len(step_sizes) < 2:
        raise ValueError(f"step_sizes must hold at least two numbers, got {step_sizes}; add some")
    start = precise(loss, start)
    flat_loss, g, Hg = _bent(loss, start)
    gaps = []
    for h in step_sizes:
        flow = gradient_flow(loss, start, h, tolerance=1e-13).flat()[-1]
        gaps.append(float((flow - (flat_loss.start - h * g)).norm()))
    slope = math.log(gaps[0] / gaps[-1]) / math.log(step_sizes[0] / step_sizes[-1])
    ratio = gaps[-1] / (0.5 * step_sizes[-1] ** 2 * float(Hg.norm()))
    detail = {"slope": slope, "coefficient over prediction": ratio}
    return Check("theorem 3.1, converse: drift h^2/2 Hg", abs(slope - 2.0), 0.05, detail)


def stays_inside(loss: Loss, start: Tensor, step_size: float) -> bool:
    """Return True if the segment of a gradient step meets no kink.

    For a loss without a domain, the function compares gradients along the segment.
    """
    flat_loss, x, g = begin(loss, start)
    end = x - step_size * g
    if flat_loss.margin(x) is not None:
        return first_kink(flat_loss, x, end) is None
    # A kink leaves a different gradient behind it, so a few points of the segment reveal it.
    parts = torch.linspace(0.0, 1.0, 17, dtype=torch.float64).tolist()[1:]
    change = max(float((flat_loss.gradient(x + p * (end - x)) - g).norm()) for p in parts)
    return change <= torch.finfo(x.dtype).eps ** 0.6 * float(g.norm())

"""CLR in Adam's metric, its steps limited by measured drift."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from corridor import _tree
from corridor._types import Params
from corridor.geometry.graph import from_graph
from corridor.optim import _metric, _options, step_size
from corridor.optim._measuring import LIMIT, MeasuringOptimizer
from corridor.optim._motion import CoherentMetricAverage, Memory


class CLRAdam(MeasuringOptimizer):
    """CLR in the metric of Adam's second moments: no learning rate, no cap.

    Gradient flow, and so a corridor, is defined by an inner product. In that of
    ``P^-1 = sqrt(v) + eps`` the flow is ``theta' = -P g``, a corridor is where ``H P g = 0``, and

        h = min((loss - f_star)_+ / (g^T P g), 2 tau sqrt(c) / r),   r = mean of |P H P g| / |P g|

    with both lengths in the metric: the loss's own step, and the largest whose drift from that flow
    is tau times the step. With momentum the first follows from the average of the linear models,
    as in `MoMoAdam`, and the step goes along the averaged gradient. Two things make the second fit
    for noise, and were chosen by experiment (see the page on drift): c, the `step_size.coherence`
    of the gradients, from 1 down to 0.23 in pure noise; and r, the mean over the whole path so far
    and not the last value, without which large steps let scale-invariant weights grow, their
    curvature fall, and the steps grow further. The product ``H (P g)`` is taken in one of `every`
    steps from the graph of the watched loss, about three gradients' work: the loss comes by `watch`
    or `attach`, in a closure too.

    P is held fixed for a single step, in which the formulas are exact in a corridor of that metric;
    over many steps it drifts with v.

    Args:
        params: whole parameters, as for `corridor.CLR`.
        max_lr: a cap, none by default; it is kept in ``param_groups[i]["lr"]``.
        f_star: lower bound of the loss.
        momentum: weight of the past in the averaged gradient.
        beta2: weight of the past in v.
        eps: added to the root of v.
        drift: tau, the largest relative drift of a step while gradients agree. Along an
            eigenvector, steps of an average are stable up to ``(1 + beta) / (1 - beta)``, 19 for
            beta = 0.9, and without momentum up to 1: choose that there.
        every: steps from one measurement of the drift to the next.
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    ``param_groups[0]`` holds ``"hessian_ratio"``, r, and ``"drift_limit"``, the second of the two
    steps: where ``"effective_lr"`` equals it the drift was the active limit, else the loss.

    Raises:
        ValueError: an option is out of range; the loss cannot be differentiated twice; none was
            watched when a measurement was due.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
        >>> opt = CLRAdam([x])
        >>> for _ in range(100):
        ...     opt.zero_grad()
        ...     loss = opt.watch((x[0] - 1.0) ** 2 + 100.0 * x[1] ** 2)
        ...     loss.backward()
        ...     opt.step()
        >>> loss.item() < 0.5  # of 1604
        True

    Reference:
        Dherin and Rosca (2024) for corridors and CLR, Schaipp et al. (2024) for the momentum
        model, Rosca et al. (2023) for the drift-adjusted rate; the three in one metric are new.
    """

    MOMENTUM = CoherentMetricAverage()
    MEMORY: ClassVar = {**MeasuringOptimizer.MEMORY, LIMIT: math.inf, "measurements": 0.0}
    OPTIONS: ClassVar = {
        "beta2": _options.FRACTION,
        "eps": _options.POSITIVE,
        "drift": _options.POSITIVE,
        "every": _options.STEPS,
    }

    def __init__(
        self,
        params: Params,
        max_lr: float = math.inf,
        *,
        f_star: float = 0.0,
        momentum: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        drift: float = 3.0,
        every: int = 20,
        weight_decay: float = 0.0,
        average_loss: bool = True,
    ) -> None:
        super().__init__(
            params,
            max_lr,
            f_star=f_star,
            momentum=momentum,
            weight_decay=weight_decay,
            average_loss=average_loss,
            options={"beta2": beta2, "eps": eps, "drift": drift, "every": every},
        )

    def bound(self, raw: Tensor, memory: Memory) -> Tensor:
        """The step size under the drift's limit."""
        share = step_size.coherence(memory["average_length_sq"], memory["gradient_length_sq"])
        return self._drift_limited(raw, memory, self.param_groups[0]["drift"] * share.sqrt())

    def _learned(self, key: str, value: Tensor, memory: Memory) -> Memory:
        """The mean over all measurements so far; one that is not finite is left out."""
        finite = torch.isfinite(value)
        count = memory["measurements"] + finite
        old = torch.where(memory["measurements"] > 0.0, memory[key], torch.zeros_like(value))
        mean = old + (value - old) / count.clamp(min=1.0)
        return {key: torch.where(finite, mean, memory[key]), "measurements": count}

    def _ratio_of(self, loss: Tensor) -> Tensor:
        """``|P H P g| / |P g|`` in the metric, with the second moments of the step to come."""
        first, dtype = self.param_groups[0], self._home()[1]
        old = first["square_weight"]
        weight = step_size.average(old, torch.ones_like(old), first["beta2"])
        inverses: list[Tensor] = []

        def scaled(p: Tensor, g: Tensor) -> Tensor:
            squares = self.state[p].get(_metric.SQUARES) if p in self.state else None
            inverse = _metric.inverse(g, squares, first["beta2"], first["eps"], weight, dtype)
            inverses.append(inverse)
            moved = (inverse * _tree.as_real(g)).to(_tree.as_real(g).dtype)
            return torch.view_as_complex(moved) if g.is_complex() else moved

        found = from_graph(loss, list(self._leaves()), scaled)

        def length(vectors: list[Tensor]) -> Tensor:
            pairs = zip(inverses, vectors, strict=True)
            return _tree.norm([inverse.sqrt() * _tree.as_real(v) for inverse, v in pairs], dtype)

        return length(found.product) / length(found.gradient)

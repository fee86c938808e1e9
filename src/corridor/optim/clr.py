"""CLR: the optimizer of the paper, safe by default."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from corridor._types import Params
from corridor.optim import _options
from corridor.optim._measuring import LIMIT, MeasuringOptimizer
from corridor.optim._motion import Average, Memory

DEFAULT_MAX_LR = 1.0


class CLR(MeasuringOptimizer):
    """Gradient descent whose step size is the Corridor Learning Rate: nothing to tune.

    In a corridor the loss falls linearly along the gradient; the step that brings it to `f_star` is

        h = min(scale * (loss - f_star)_+ / ||g||^2, max_lr),    theta <- theta - h g

    with ``||g||^2`` taken over all parameters. ``CLR(params, max_lr=float("inf"))`` is the paper's
    rule to the letter, ``max_lr=10`` its ImageNet form.

    The loss reaches the optimizer in one of three ways: ``step(loss=loss)``; ``step(closure)``;
    ``watch(loss)`` before backward, or ``attach(model)`` once, followed by a bare ``step()``. What
    was watched wins over a closure's return value.

    A loss or gradient that is not finite skips the step: parameters and averages stay as they are.
    A loss below `f_star`, or a zero gradient, gives no step. ``||g||^2`` is that of the gradients
    in ``.grad``: clipping them shortens g and not the loss, so that the step grows; lower `max_lr`
    instead.

    With ``momentum > 0`` the step goes along the average of past gradients and its size solves the
    average of their linear models (MoMo), which stays exact in corridors; it costs one buffer. The
    model takes the parameters to move by these steps alone.

    With ``drift=tau`` the step is limited by the landscape instead of a cap,

        h = min(loss / ||g||^2, 2 tau ||g|| / ||Hg||)

    the largest step whose drift from gradient flow is, to leading order, tau times the step. The
    product Hg is taken in one of `every` steps from the graph of the watched loss, about three
    gradients' work; the loss must come by `watch` or `attach`, in a closure too.

    Args:
        params: parameters, groups, or named parameters, as for any torch optimizer.
        max_lr: the cap, a positive number or inf; by default 1, or inf with `drift`. It is kept in
            ``param_groups[i]["lr"]``, where a scheduler scales it; a group may have its own.
        f_star: the loss aimed at, a lower bound. 0 is right for losses that can reach zero, such
            as cross-entropy with hard labels.
        scale: factor on the uncapped step.
        momentum: weight of the past in the gradient average, in [0, 1).
        weight_decay: decoupled, ``theta <- (1 - h weight_decay) theta`` before the step; it is
            not part of the loss, so `f_star` keeps its meaning. A group may have its own.
        average_loss: the loss is averaged over all ranks of the default process group, as
            data-parallel training averages gradients; False where each rank trains a model of its
            own.
        drift: tau, the largest relative drift of a step; None for no such limit.
        every: steps from one measurement of the drift to the next.

    ``param_groups[i]["effective_lr"]`` holds the step size last used, 0 on a skipped step;
    ``param_groups[0]["skipped"]`` the number of skipped steps, and ``["grad_norm"]`` the last
    ``||g||``: 0-dim tensors beside the parameters, so that reading them is the caller's choice.
    With `drift`, ``["hessian_ratio"]`` holds ``||Hg|| / ||g||``.

    Raises:
        ValueError: an option is out of range, or groups disagree on an option of the one step size;
            with `drift`, the loss cannot be differentiated twice, or none was watched when a
            measurement was due.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = CLR([x], max_lr=float("inf"))
        >>> loss = x.norm()  # a cone: a corridor down to its apex
        >>> loss.backward()
        >>> _ = opt.step(loss=loss)
        >>> bool(x.norm() < 1e-6), float(opt.param_groups[0]["effective_lr"])
        (True, 5.0)

    Reference:
        Dherin and Rosca (2024), "Corridor Geometry in Gradient-Based Optimization"; the momentum
        form follows Schaipp et al. (2024), "MoMo", and 2 ||g|| / ||Hg|| is Rosca et al. (2023)'s
        drift-adjusted learning rate.
    """

    MOMENTUM = Average()
    MEMORY: ClassVar = {**MeasuringOptimizer.MEMORY, LIMIT: math.inf}
    OPTIONS: ClassVar = {
        "scale": _options.POSITIVE,
        "drift": _options.optional(_options.POSITIVE),
        "every": _options.STEPS,
    }

    def __init__(
        self,
        params: Params,
        max_lr: float | None = None,
        *,
        f_star: float = 0.0,
        scale: float = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        average_loss: bool = True,
        drift: float | None = None,
        every: int = 10,
    ) -> None:
        default = DEFAULT_MAX_LR if drift is None else math.inf
        super().__init__(
            params,
            default if max_lr is None else max_lr,
            f_star=f_star,
            momentum=momentum,
            weight_decay=weight_decay,
            average_loss=average_loss,
            options={"scale": scale, "drift": drift, "every": every},
        )

    def _measures(self) -> bool:
        return self.param_groups[0]["drift"] is not None

    def bound(self, raw: Tensor, memory: Memory) -> Tensor:
        """The step size under the drift's limit."""
        if not self._measures():
            return raw
        return self._drift_limited(raw, memory, self.param_groups[0]["drift"])

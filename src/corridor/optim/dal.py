"""DAL: the step size from the curvature along the gradient, whatever the loss is."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from corridor._types import Params
from corridor.optim import _options, step_size
from corridor.optim._measuring import RATIO, MeasuringOptimizer
from corridor.optim._motion import Memory


class DAL(MeasuringOptimizer):
    """Drift-adjusted learning rate: ``h = min(2 / (||Hg|| / ||g||)^power, max_lr)``.

    At ``power = 1`` the step's drift from gradient flow is, to leading order, as long as the step
    itself. In a corridor Hg = 0 and the step is at its cap; the loss only says whether the step is
    usable.

    Hg is taken from the graph of the watched loss, at about three more gradients, so the loss must
    come by ``watch(loss).backward()`` or ``attach(model)``. With `every` the ratio is measured in
    one of so many steps, and kept between them. Of several watched micro-batches the first is
    measured. Under data parallelism each rank measures its own batch, and the ratios are averaged.

    Args:
        params: whole parameters, as for `corridor.CLR`; sharded ones have no Hg.
        max_lr: the cap.
        power: 0 is descent at rate 2, 1 the rule of constant drift.
        every: steps from one measurement to the next.
        momentum: heavy ball.
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    ``param_groups[0]["hessian_ratio"]`` holds the ratio in use, ``||Hg|| / ||g||``.

    Raises:
        ValueError: at `watch`, the loss cannot be differentiated twice; at `step`, no loss was
            watched when a measurement was due.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = DAL([x])
        >>> opt.watch(4.0 * x.square().sum()).backward()  # H = 8
        >>> opt.step()
        >>> float(opt.param_groups[0]["effective_lr"])
        0.25

    Reference:
        Rosca, Wu, Qin and Dherin (2023), "On a continuous time model of gradient descent dynamics
        and instability in deep learning", arXiv 2302.01952.
    """

    OPTIONS: ClassVar = {
        "power": _options.Rule("a number, at least 0", lambda v: 0.0 <= v < float("inf")),
        "every": _options.STEPS,
    }

    def __init__(
        self,
        params: Params,
        max_lr: float = 5.0,
        *,
        power: float = 1.0,
        every: int = 1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        average_loss: bool = True,
    ) -> None:
        super().__init__(
            params,
            max_lr,
            momentum=momentum,
            weight_decay=weight_decay,
            average_loss=average_loss,
            options={"power": power, "every": every},
        )

    def step_size_rule(
        self, loss: Tensor, norm_sq: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """The step by the ratio in use."""
        return step_size.dal(memory[RATIO], self.param_groups[0]["power"]), memory

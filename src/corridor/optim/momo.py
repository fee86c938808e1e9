"""MoMo and MoMo-Adam: averaged linear models of the loss, with or without an estimated bound."""

from __future__ import annotations

from typing import ClassVar

from corridor._types import Params
from corridor.optim import _options
from corridor.optim._motion import Average, MetricAverage
from corridor.optim.base import PolyakOptimizer


class MoMo(PolyakOptimizer):
    """Momentum models: the step along an average of gradients to where their models meet f_star.

    `corridor.CLR` with momentum is the same without the estimate of the least loss.

    Args:
        params: as for `corridor.CLR`.
        max_lr: the cap.
        f_star: lower bound of the loss; with `estimate_f_star` the least that is believed.
        momentum: weight of the past.
        estimate_f_star: estimate the least loss on the way, where no bound is known.
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    The paper's weight decay is a proximal step.

    ``param_groups[0]["lower_bound"]`` holds the estimate.

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = MoMo([x], max_lr=float("inf"))
        >>> opt.watch(x.norm()).backward()
        >>> opt.step()
        >>> bool(x.norm() < 1e-6)
        True

    Reference:
        Schaipp, Ohana, Eickenberg, Defazio and Gower (2024), "MoMo: Momentum Models for Adaptive
        Learning Rates", arXiv 2305.07583.
    """

    MOMENTUM = Average()
    OPTIONS: ClassVar = {"estimate_f_star": _options.SWITCH}
    MEMORY: ClassVar = {"lower_bound": "f_star"}

    def __init__(
        self,
        params: Params,
        max_lr: float = 1.0,
        *,
        f_star: float = 0.0,
        momentum: float = 0.9,
        estimate_f_star: bool = False,
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
            options={"estimate_f_star": estimate_f_star},
        )


class MoMoAdam(PolyakOptimizer):
    """MoMo in Adam's metric: along ``d / (rho D)``, ``D = sqrt(v) + eps``, with its own step size.

        h = min(rho [f_avg + c - rho f_star]_+ / <d, d / D>, max_lr)

    d and v are Adam's averages of g and g^2, the latter over the sum of its weights.

    Args:
        params: as for `corridor.CLR`.
        max_lr: the cap, of the order of Adam's learning rates.
        f_star: lower bound of the loss; with `estimate_f_star` the least that is believed.
        momentum: weight of the past in d, Adam's beta_1.
        beta2: weight of the past in v.
        eps: added to the root of v.
        estimate_f_star: as for `MoMo`.
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Example:
        >>> import torch
        >>> x = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
        >>> opt = MoMoAdam([x], max_lr=float("inf"))
        >>> opt.watch(x.abs().max()).backward()  # a corridor of the metric too
        >>> opt.step()
        >>> [round(v, 5) for v in x.tolist()]
        [3.0, 0.0]

    Reference:
        Schaipp et al. (2024), "MoMo: Momentum Models for Adaptive Learning Rates".
    """

    MOMENTUM = MetricAverage()
    OPTIONS: ClassVar = {
        "beta2": _options.FRACTION,
        "eps": _options.POSITIVE,
        "estimate_f_star": _options.SWITCH,
    }
    MEMORY: ClassVar = {"lower_bound": "f_star"}

    def __init__(
        self,
        params: Params,
        max_lr: float = 1e-2,
        *,
        f_star: float = 0.0,
        momentum: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        estimate_f_star: bool = False,
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
            options={"beta2": beta2, "eps": eps, "estimate_f_star": estimate_f_star},
        )

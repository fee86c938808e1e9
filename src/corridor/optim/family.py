"""Define relatives of CLR: Polyak's step and its half, NGN, MoMo and DAL.

With momentum, `HalfPolyak`, `NGN` and `DAL` move as a heavy ball, ``v <- beta v - (1 - beta) h g``,
``theta <- theta + v``. The others average linear models. All else is as in CLR.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from corridor._types import Params
from corridor.optim import _options, step_size
from corridor.optim._curvature import DriftAdjusted
from corridor.optim._metric import Adam, Euclidean
from corridor.optim._motion import Average
from corridor.optim._options import Memory, Sized
from corridor.optim.base import PolyakOptimizer


class Polyak(PolyakOptimizer):
    """Take Polyak's step to a known minimum: ``h = min((loss - f_star)_+ / ||g||^2, max_lr)``.

    Args:
        params: parameters, groups, or named parameters.
        f_star: minimum of the loss (required). `corridor.CLR` has ``f_star = 0`` as its default.
        max_lr: the cap, positive or inf (default: 1). A group may have its own.
        momentum: weight of the past in the gradient average, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Reference:
        Polyak (1987), "Introduction to Optimization".
    """

    MOTION = Average(Euclidean())

    def __init__(
        self, params: Params, f_star: float, *, max_lr: float = 1.0,
        momentum: float = 0.0, weight_decay: float = 0.0, average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())


class HalfPolyak(PolyakOptimizer):
    """Take half of Polyak's step to a lower bound, and raise the bound while it is too low.

        h = min((loss - bound)_+ / (2 ||g||^2), max_lr)

    ``bound`` starts at `f_star`. After every `refine_every` steps it moves half of the way to the
    minimum loss of those steps. Use that with full batches only, because the minimum over
    mini-batches is biased. Steps with no gap or no gradient do not count. A loss below the bound
    resets the bound to `f_star`. A new value of `f_star` in the groups resets it, too.

    Args:
        params: parameters, groups, or named parameters.
        max_lr: the cap, positive or inf (default: 1). A group may have its own.
        refine_every: number of steps between refinements; None for no refinement (default: None).
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    ``param_groups[0]["lower_bound"]`` is the current bound.

    Reference:
        Hazan and Kakade (2019), "Revisiting the Polyak step size", arXiv 1905.00313.
    """

    OPTIONS: ClassVar = {"refine_every": _options.optional(_options.STEPS)}
    MEMORY: ClassVar = {
        **dict.fromkeys(("lower_bound", "last_f_star"), "f_star"),
        "best_loss": math.inf,
        "round_steps": 0.0,
    }

    def __init__(
        self, params: Params, max_lr: float = 1.0, *, refine_every: int | None = None,
        f_star: float = 0.0, momentum: float = 0.0, weight_decay: float = 0.0,
        average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor, memory: Memory) -> Sized:
        """Return half the step to the current bound, which each round of steps refines."""
        first, every = self.param_groups[0], self.param_groups[0]["refine_every"]
        f_star = torch.full_like(loss, first["f_star"])
        bound, best = memory["lower_bound"], memory["best_loss"]
        bound = torch.where((loss < bound) | (f_star != memory["last_f_star"]), f_star, bound)
        step = step_size.clr(loss, norm_sq, scale=0.5, f_star=bound)
        moves = step > 0.0
        best = torch.where(moves, torch.minimum(best, loss), best)
        age = memory["round_steps"] + moves
        if every is not None:
            over = age >= every
            bound = torch.where(over, 0.5 * (best + torch.minimum(bound, best)), bound)
            best, age = torch.where(over, torch.inf, best), torch.where(over, 0.0, age)
        new = {"lower_bound": bound, "best_loss": best, "round_steps": age}
        return step, {**new, "last_f_star": f_star}


class NGN(PolyakOptimizer):
    """Take the non-negative Gauss-Newton step, ``h = sigma / (1 + sigma ||g||^2 / (2 gap))``.

    Here ``gap = (loss - f_star)_+``. sigma acts as a smooth cap: h is below sigma and below twice
    Polyak's step, and close to the smaller one. With momentum this is NGN-M.

    Args:
        params: parameters, groups, or named parameters.
        sigma: the bound on h, positive or inf (default: 1). It is stored in
            ``param_groups[i]["lr"]``, where a scheduler scales it. A group may have its own.
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = NGN([x], sigma=float("inf"))
        >>> opt.watch(x.square().sum()).backward()  # the root of this loss is a corridor
        >>> opt.step()
        >>> bool(x.norm() < 1e-6)
        True

    Reference:
        Orvieto and Xiao (2024), "An Adaptive Stochastic Gradient Method with Non-negative
        Gauss-Newton Stepsizes", arXiv 2407.04358; with momentum arXiv 2508.15071.
    """

    CAP = "sigma"

    def __init__(
        self, params: Params, sigma: float = 1.0, *, f_star: float = 0.0,
        momentum: float = 0.0, weight_decay: float = 0.0, average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor, memory: Memory) -> Sized:
        """Return twice Polyak's step."""
        f_star = self.param_groups[0]["f_star"]
        return step_size.clr(loss, norm_sq, f_star=f_star, scale=2.0), memory

    def capped(self, raw: Tensor, cap: Tensor | float) -> Tensor:
        """Return half the harmonic mean of the step and sigma."""
        if not isinstance(cap, Tensor) and cap <= 0.0:  # a schedule has ended
            return torch.zeros_like(raw)
        return 1.0 / (1.0 / raw + 1.0 / cap)


class MoMo(PolyakOptimizer):
    """Step along an average of gradients to where the average of their models meets f_star.

    `corridor.CLR` with momentum is this class without the estimate of the minimum. The paper's
    weight decay is a proximal step; here it is decoupled.

    Args:
        params: parameters, groups, or named parameters.
        max_lr: the cap, positive or inf (default: 1). With ``estimate_f_star=True``, under inf and
            with `f_star` far below the minimum, the last loss may be far above the lowest: give
            a finite cap. A group may have its own.
        f_star: lower bound of the loss (default: 0). With ``estimate_f_star=True`` the estimate
            never falls below it. An estimate that has met the loss falls half of the way to it.
            Where losses can be negative, pass a number below all of them: a loss of 0 ends the run
            at the default.
        momentum: weight of the past, in [0, 1) (default: 0.9).
        estimate_f_star: estimate the minimum of the loss during training (default: False).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    ``param_groups[0]["lower_bound"]`` is the estimate.

    Reference:
        Schaipp, Ohana, Eickenberg, Defazio and Gower (2024), "MoMo: Momentum Models for Adaptive
        Learning Rates", arXiv 2305.07583.
    """

    MOTION = Average(Euclidean())
    OPTIONS: ClassVar = {"estimate_f_star": _options.SWITCH}
    MEMORY: ClassVar = {"lower_bound": "f_star"}

    def __init__(
        self, params: Params, max_lr: float = 1.0, *, f_star: float = 0.0,
        momentum: float = 0.9, estimate_f_star: bool = False,
        weight_decay: float = 0.0, average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())


class MoMoAdam(MoMo):
    """Take MoMo's step in Adam's metric, along ``d / (rho D)`` with ``D = sqrt(v) + eps``.

        h = min(rho [f_avg + c - rho f_star]_+ / <d, d / D>, max_lr)

    d and v are Adam's averages of g and g^2. v is divided by the sum of its weights.

    Args:
        params: parameters, groups, or named parameters.
        max_lr: the cap, positive or inf (default: 0.01). Adam's learning rates are of this order.
            A group may have its own.
        f_star: lower bound of the loss (default: 0). With ``estimate_f_star=True`` the estimate
            never falls below it. An estimate that has met the loss falls half of the way to it.
            Where losses can be negative, pass a number below all of them: a loss of 0 ends the run
            at the default.
        momentum: weight of the past in d, Adam's beta_1, in [0, 1) (default: 0.9).
        beta2: weight of the past in v, in [0, 1) (default: 0.999).
        eps: number added to the root of v, positive (default: 1e-8).
        estimate_f_star: estimate the minimum of the loss during training (default: False).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    ``param_groups[0]["lower_bound"]`` is the estimate.

    Reference:
        Schaipp et al. (2024), "MoMo: Momentum Models for Adaptive Learning Rates".
    """

    MOTION = Average(Adam())

    def __init__(
        self, params: Params, max_lr: float = 1e-2, *, f_star: float = 0.0,
        momentum: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
        estimate_f_star: bool = False, weight_decay: float = 0.0, average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())


class DAL(PolyakOptimizer):
    """Take the drift-adjusted learning rate: ``h = min(2 / (||Hg|| / ||g||)^power, max_lr)``.

    At ``power = 1`` the step's drift from gradient flow is, to leading order, as long as the step.
    In a corridor Hg = 0 and the step is at its cap. The loss only decides if a step is skipped.

    Hg comes from the graph of the watched loss and costs about three gradients. The loss must come
    by ``watch(loss).backward()`` or ``attach(model)``. Of several watched micro-batches the first
    is measured. Under data parallelism the ranks' ratios are averaged.

    Args:
        params: whole parameters, groups of them, or named parameters, none of them sharded.
        max_lr: the cap, positive or inf (default: 5). A group may have its own. Give a finite
            cap: in a corridor nothing else limits the step. Under inf it is the largest number.
        power: exponent, non-negative (default: 1, the rule of constant drift). 0 is descent at the
            rate 2.
        every: number of steps from one measurement to the next (default: 1).
        momentum: weight of the past in the heavy ball, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average loss and ratio over all ranks (default: True).

    ``param_groups[0]["hessian_ratio"]`` is the current ratio, ``||Hg|| / ||g||``.

    Raises:
        ValueError: the loss cannot be differentiated twice, or no loss was watched.

    Example:
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

    LIMITS = (DriftAdjusted(),)

    def __init__(
        self, params: Params, max_lr: float = 5.0, *, power: float = 1.0, every: int = 1,
        momentum: float = 0.0, weight_decay: float = 0.0, average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor, memory: Memory) -> Sized:
        """Return the largest number: only the curvature limits the step."""
        return torch.full_like(norm_sq, torch.finfo(norm_sq.dtype).max), memory

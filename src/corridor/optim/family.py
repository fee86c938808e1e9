"""The relatives of CLR: other answers to what a step size may learn from the loss.

Each is a row over the same machine: every loss channel, the cap in ``param_groups[i]["lr"]``,
skipped steps, weight decay, several processes, and what a step leaves in the groups are as for
`corridor.CLR`. With ``momentum > 0`` they move as a heavy ball, ``v <- beta v - (1 - beta) h g``,
``theta <- theta + v``, but for `Polyak`, which averages linear models.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from corridor._types import Params
from corridor.optim import _options, step_size
from corridor.optim._motion import Average, Memory
from corridor.optim.base import PolyakOptimizer

_GROWTH = _options.Rule("a number, at least 1", lambda v: 1.0 <= v < math.inf)


class Polyak(PolyakOptimizer):
    """Polyak's step to a known least loss: ``h = min((loss - f_star)_+ / ||g||^2, max_lr)``.

    Args:
        params: as for `corridor.CLR`.
        f_star: the least loss; it has to be given. `corridor.CLR` is this with ``f_star = 0``.
        max_lr: the cap.
        momentum: as for `corridor.CLR`.
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = Polyak([x], f_star=2.0, max_lr=float("inf"))
        >>> opt.watch(x.norm() + 2.0).backward()
        >>> opt.step()
        >>> bool(x.norm() < 1e-6)
        True

    Reference:
        Polyak (1987), "Introduction to Optimization".
    """

    MOMENTUM = Average()

    def __init__(
        self,
        params: Params,
        f_star: float,
        *,
        max_lr: float = 1.0,
        momentum: float = 0.0,
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
        )


class HalfPolyak(PolyakOptimizer):
    """Half of Polyak's step towards a lower bound, which is raised while it proves too low.

        h = min((loss - bound)_+ / (2 ||g||^2), max_lr)

    ``bound`` begins at `f_star`. After every `refine_every` steps it moves half of the way to the
    best loss of those steps; the least loss over a stretch of mini-batches is lucky, so choose
    full batches or leave it off. A loss under the bound proves it too high: it falls back to
    `f_star`.

    Args:
        params: as for `corridor.CLR`.
        max_lr: the cap.
        refine_every: steps between refinements; None for none.
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    ``param_groups[0]["lower_bound"]`` holds the bound in use.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = HalfPolyak([x], max_lr=float("inf"))
        >>> opt.watch(x.norm()).backward()
        >>> opt.step()
        >>> round(x.norm().item(), 4)
        2.5

    Reference:
        Hazan and Kakade (2019), "Revisiting the Polyak step size", arXiv 1905.00313.
    """

    OPTIONS: ClassVar = {"refine_every": _options.optional(_options.STEPS)}
    MEMORY: ClassVar = {"lower_bound": "f_star", "best_loss": math.inf, "round_steps": 0.0}

    def __init__(
        self,
        params: Params,
        max_lr: float = 1.0,
        *,
        refine_every: int | None = None,
        f_star: float = 0.0,
        momentum: float = 0.0,
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
            options={"refine_every": refine_every},
        )

    def step_size_rule(
        self, loss: Tensor, norm_sq: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Half the step to the bound in use."""
        first = self.param_groups[0]
        bound = memory["lower_bound"]
        bound = torch.where(loss < bound, torch.full_like(bound, first["f_star"]), bound)
        step, bound, best, age = step_size.half_polyak(
            loss, norm_sq, bound, memory["best_loss"], memory["round_steps"], first["refine_every"]
        )
        return step, {"lower_bound": bound, "best_loss": best, "round_steps": age}


class SPSMax(PolyakOptimizer):
    """Stochastic Polyak step: ``h = min((loss - f_star)_+ / (c ||g||^2), max_lr)``.

    Args:
        params: as for `corridor.CLR`.
        max_lr: the cap, the paper's gamma_b.
        c: divisor; 1/2 is the best on convex problems, 1/5 was used for deep networks.
        growth: smoothing: no step exceeds the one before by more than this factor; 2 ** (1 / n)
            lets it double in n steps. None for none.
        first: the step that smoothing takes for the one before the first.
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    With momentum, ``c = 1`` and no smoothing this is MomSPS.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = SPSMax([x], max_lr=float("inf"), c=1.0)
        >>> opt.watch(x.norm()).backward()
        >>> opt.step()
        >>> bool(x.norm() < 1e-6)
        True

    Reference:
        Loizou, Vaswani, Laradji and Lacoste-Julien (2021), "Stochastic Polyak Step-size for SGD";
        with momentum Oikonomou and Loizou (2024), "Stochastic Polyak Step-sizes and Momentum".
    """

    OPTIONS: ClassVar = {
        "c": _options.POSITIVE,
        "growth": _options.optional(_GROWTH),
        "first": _options.POSITIVE,
    }
    MEMORY: ClassVar = {"last_step": "first"}

    def __init__(
        self,
        params: Params,
        max_lr: float = 1.0,
        *,
        c: float = 0.5,
        growth: float | None = None,
        first: float = 1.0,
        f_star: float = 0.0,
        momentum: float = 0.0,
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
            options={"c": c, "growth": growth, "first": first},
        )

    def step_size_rule(
        self, loss: Tensor, norm_sq: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """The step over c, its growth limited; where there is none, the last one is kept."""
        first, last = self.param_groups[0], memory["last_step"]
        gap = loss - first["f_star"]
        step = step_size.sps_max(gap, norm_sq, last, first["c"], first["growth"])
        return step, {"last_step": torch.where(step > 0.0, step, last)}


class SPSSafe(PolyakOptimizer):
    """Polyak's step with a floor under the norm: ``h = (loss - f_star)_+ / max(||g||^2, floor)``.

    Args:
        params: as for `corridor.CLR`.
        max_lr: the cap; none by default, the floor takes its part.
        floor: the paper's M, the least ``||g||^2`` that is divided by.
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = SPSSafe([x])
        >>> opt.watch(x.norm()).backward()
        >>> opt.step()
        >>> bool(x.norm() < 1e-6)
        True

    Reference:
        arXiv 2512.02342 (2025), the safeguarded stochastic Polyak step.
    """

    OPTIONS: ClassVar = {"floor": _options.POSITIVE}

    def __init__(
        self,
        params: Params,
        max_lr: float = math.inf,
        *,
        floor: float = 1.0,
        f_star: float = 0.0,
        momentum: float = 0.0,
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
            options={"floor": floor},
        )

    def step_size_rule(
        self, loss: Tensor, norm_sq: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """The step over the norm or its floor."""
        first = self.param_groups[0]
        return step_size.sps_safe(loss - first["f_star"], norm_sq, first["floor"]), memory


class NGN(PolyakOptimizer):
    """Non-negative Gauss-Newton: ``h = sigma / (1 + sigma ||g||^2 / (2 (loss - f_star)_+))``.

    A smooth cap: h is under sigma and under twice the Polyak step, close to the lesser one.

    Args:
        params: as for `corridor.CLR`.
        sigma: the bound on h, where the others have ``max_lr``; it is kept in
            ``param_groups[i]["lr"]`` for schedulers.
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    With momentum this is NGN-M.

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
        self,
        params: Params,
        sigma: float = 1.0,
        *,
        f_star: float = 0.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        average_loss: bool = True,
    ) -> None:
        super().__init__(
            params,
            sigma,
            f_star=f_star,
            momentum=momentum,
            weight_decay=weight_decay,
            average_loss=average_loss,
        )

    def step_size_rule(
        self, loss: Tensor, norm_sq: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Twice Polyak's step."""
        return step_size.clr(loss, norm_sq, self.param_groups[0]["f_star"], 2.0), memory

    def limit(self, raw: Tensor, cap: Tensor | float) -> Tensor:
        """Half the harmonic mean of the step and sigma."""
        return step_size.ngn(raw, cap)


class DecSPS(PolyakOptimizer):
    """Decreasing Polyak step: ``h_k = y_k / (c sqrt(k + 1))``, y_k the least Polyak step so far.

    Converges where the batches do not share a minimiser and the Polyak step would not; in exchange
    it never grows. Steps with nothing to gain, or no gradient, do not count.

    Args:
        params: as for `corridor.CLR`.
        max_lr: the largest step, the paper's gamma_b. That of the first group at the start bounds
            y_k; a schedule limits the steps alone.
        c: divisor, the paper's c_0.
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = DecSPS([x], max_lr=10.0)
        >>> opt.watch(x.norm()).backward()
        >>> opt.step()
        >>> bool(x.norm() < 1e-6)
        True

    Reference:
        Orvieto, Lacoste-Julien and Loizou (2022), "Dynamics of SGD with Stochastic Polyak
        Stepsizes: Truly Adaptive Variants and Convergence to Exact Solution".
    """

    OPTIONS: ClassVar = {"c": _options.POSITIVE}
    MEMORY: ClassVar = {"least_step": "lr", "counted_steps": 0.0}

    def __init__(
        self,
        params: Params,
        max_lr: float = 1.0,
        *,
        c: float = 1.0,
        f_star: float = 0.0,
        momentum: float = 0.0,
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
            options={"c": c},
        )

    def step_size_rule(
        self, loss: Tensor, norm_sq: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """The least step so far over the root of the count."""
        first = self.param_groups[0]
        step, least, count = step_size.dec_sps(
            loss - first["f_star"],
            norm_sq,
            memory["least_step"],
            memory["counted_steps"],
            first["c"],
        )
        return step, {"least_step": least, "counted_steps": count}


class AdaSPS(PolyakOptimizer):
    """Adaptive Polyak step: ``h_t = min(gap_t / (c_p ||g||^2 sqrt(sum_s gap_s)), h_{t-1})``.

    ``gap = (loss - f_star)_+`` and ``c_p = c / sqrt(first gap)``, so that the first step is that of
    CLR over c. It never grows; steps with nothing to gain, or no gradient, do not count.

    Args:
        params: as for `corridor.CLR`.
        max_lr: the cap.
        c: divisor.
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0); a group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = AdaSPS([x], max_lr=10.0)
        >>> opt.watch(x.norm()).backward()
        >>> opt.step()
        >>> bool(x.norm() < 1e-6)
        True

    Reference:
        Jiang and Stich (2023), "Adaptive SGD with Polyak stepsize and Line-search: Robust
        Convergence and Variance Reduction", arXiv 2308.06058.
    """

    OPTIONS: ClassVar = {"c": _options.POSITIVE}
    MEMORY: ClassVar = {"last_step": math.inf, "gap_sum": 0.0, "first_gap": 0.0}

    def __init__(
        self,
        params: Params,
        max_lr: float = 1.0,
        *,
        c: float = 1.0,
        f_star: float = 0.0,
        momentum: float = 0.0,
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
            options={"c": c},
        )

    def step_size_rule(
        self, loss: Tensor, norm_sq: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """The step over the root of all gaps so far."""
        first = self.param_groups[0]
        step, last, total, unit = step_size.ada_sps(
            loss - first["f_star"],
            norm_sq,
            memory["last_step"],
            memory["gap_sum"],
            memory["first_gap"],
            first["c"],
        )
        return step, {"last_step": last, "gap_sum": total, "first_gap": unit}

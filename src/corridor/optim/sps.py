"""Define relatives of CLR with stochastic Polyak steps: SPSMax, SPSSafe, DecSPS and AdaSPS.

With momentum they move as a heavy ball. All else is as in CLR. Below, ``gap = (loss - f_star)_+``.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from corridor._types import Params
from corridor.optim import _options, step_size
from corridor.optim._options import Memory, Sized
from corridor.optim.base import PolyakOptimizer


class SPSMax(PolyakOptimizer):
    """Take the stochastic Polyak step with a cap, ``h = min(gap / (c ||g||^2), max_lr)``.

    With momentum, ``c = 1`` and no smoothing this is MomSPS.

    Args:
        params: parameters, groups, or named parameters.
        max_lr: the cap, the paper's gamma_b, positive or inf (default: 1). A group may have its
            own.
        c: divisor, positive (default: 1/2, the best on convex problems). 1/5 was used for deep
            networks.
        growth: factor by which a step may exceed the step before, at least 1; None for no limit
            (default: None). ``2 ** (1 / n)`` lets the step double in n steps.
        first: value of the step before the first step, positive (default: 1).
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Reference:
        Loizou, Vaswani, Laradji and Lacoste-Julien (2021), "Stochastic Polyak Step-size for SGD";
        with momentum Oikonomou and Loizou (2024), "Stochastic Polyak Step-sizes and Momentum".
    """

    OPTIONS: ClassVar = {
        "c": _options.POSITIVE,
        "growth": _options.optional(_options.FACTOR),
        "first": _options.POSITIVE,
    }
    MEMORY: ClassVar = {"last_step": "first"}

    def __init__(
        self, params: Params, max_lr: float = 1.0, *, c: float = 0.5, growth: float | None = None,
        first: float = 1.0, f_star: float = 0.0, momentum: float = 0.0,
        weight_decay: float = 0.0, average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor, memory: Memory) -> Sized:
        """Return the step with its growth limited. A step of 0 is not stored."""
        first, last = self.param_groups[0], memory["last_step"]
        step = step_size.ratio((loss - first["f_star"]) / first["c"], norm_sq)
        if first["growth"] is not None:
            step = torch.minimum(step, first["growth"] * last)
        return step, {"last_step": torch.where(step > 0.0, step, last)}


class SPSSafe(PolyakOptimizer):
    """Take Polyak's step with a floor under the norm, ``h = gap / max(||g||^2, floor)``.

    Args:
        params: parameters, groups, or named parameters.
        max_lr: the cap, positive or inf (default: inf). A group may have its own.
        floor: the paper's M, the smallest divisor, positive (default: 1).
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Reference:
        arXiv 2512.02342 (2025), "Safeguarded stochastic Polyak step sizes".
    """

    OPTIONS: ClassVar = {"floor": _options.POSITIVE}

    def __init__(
        self, params: Params, max_lr: float = math.inf, *, floor: float = 1.0,
        f_star: float = 0.0, momentum: float = 0.0, weight_decay: float = 0.0,
        average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor, memory: Memory) -> Sized:
        """Return the gap over the squared norm or its floor."""
        first = self.param_groups[0]
        step = step_size.ratio(loss - first["f_star"], norm_sq.clamp(min=first["floor"]))
        return torch.where(norm_sq > 0.0, step, 0.0), memory


class DecSPS(PolyakOptimizer):
    """Take decreasing Polyak steps, ``h_k = y_k / (c sqrt(k + 1))``, y_k the smallest step so far.

    The steps converge if batches do not share a minimum, where Polyak's steps do not. But
    they never grow. Steps with no gap or no gradient do not count.

    Args:
        params: parameters, groups, or named parameters.
        max_lr: the largest step, the paper's gamma_b, positive or inf (default: 1). The first
            value in the first group bounds y_k. A schedule limits only the steps.
        c: divisor, the paper's c_0, positive (default: 1).
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Reference:
        Orvieto, Lacoste-Julien and Loizou (2022), "Dynamics of SGD with Stochastic Polyak
        Stepsizes: Truly Adaptive Variants and Convergence to Exact Solution".
    """

    OPTIONS: ClassVar = {"c": _options.POSITIVE}
    MEMORY: ClassVar = {"least_step": "lr", "counted_steps": 0.0}

    def __init__(
        self, params: Params, max_lr: float = 1.0, *, c: float = 1.0, f_star: float = 0.0,
        momentum: float = 0.0, weight_decay: float = 0.0, average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor, memory: Memory) -> Sized:
        """Return the smallest step so far over the root of the count."""
        first, least, count = self.param_groups[0], memory["least_step"], memory["counted_steps"]
        polyak = step_size.ratio((loss - first["f_star"]) / first["c"], norm_sq)
        gains = polyak > 0.0  # a stored 0 would end all progress
        least = torch.where(gains, torch.minimum(least, polyak), least)
        step = torch.where(gains, least / torch.sqrt(count + 1.0), 0.0)
        return step, {"least_step": least, "counted_steps": count + gains}


class AdaSPS(PolyakOptimizer):
    """Take adaptive Polyak steps, ``h_t = min(gap_t / (c_p ||g||^2 sqrt(sum_s gap_s)), h_{t-1})``.

    ``c_p = c / sqrt(first gap)`` makes the first step equal to CLR's over c. The steps never grow.
    Steps with no gap or no gradient do not count.

    Args:
        params: parameters, groups, or named parameters.
        max_lr: the cap, positive or inf (default: 1). A group may have its own.
        c: divisor, positive (default: 1).
        f_star: lower bound of the loss (default: 0).
        momentum: weight of the past, in [0, 1) (default: 0).
        weight_decay: decoupled, non-negative (default: 0). A group may have its own.
        average_loss: average the loss over all ranks (default: True).

    Reference:
        Jiang and Stich (2023), "Adaptive SGD with Polyak stepsize and Line-search: Robust
        Convergence and Variance Reduction", arXiv 2308.06058.
    """

    OPTIONS: ClassVar = {"c": _options.POSITIVE}
    MEMORY: ClassVar = {"last_step": math.inf, "gap_sum": 0.0, "first_gap": 0.0}

    def __init__(
        self, params: Params, max_lr: float = 1.0, *, c: float = 1.0, f_star: float = 0.0,
        momentum: float = 0.0, weight_decay: float = 0.0, average_loss: bool = True,
    ) -> None:  # fmt: skip
        self._begin(locals())

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor, memory: Memory) -> Sized:
        """Return the step over the root of the sum of all gaps so far."""
        first, last, unit = self.param_groups[0], memory["last_step"], memory["first_gap"]
        gap = torch.where(norm_sq > 0.0, (loss - first["f_star"]).clamp(min=0.0), 0.0)
        unit, total = torch.where(unit > 0.0, unit, gap), memory["gap_sum"] + gap
        share = unit / total.clamp(min=torch.finfo(gap.dtype).tiny)
        step = step_size.ratio(gap * share.sqrt() / first["c"], norm_sq)
        last = torch.where(step > 0.0, torch.minimum(step, last), last)
        step = torch.where(step > 0.0, last, 0.0)
        return step, {"last_step": last, "gap_sum": total, "first_gap": unit}

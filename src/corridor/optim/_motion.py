"""What a step moves along: the gradient, a heavy ball, an average, an average in Adam's metric.

A motion measures the gradients bucket by bucket, asks for the size of the step once the sums are
complete, and moves. It holds no state: buffers lie in the optimizer's ``state``, scalars (the
memory) in its first group, and come and go as arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from corridor import _tree
from corridor.optim import _average, _metric, _update, step_size
from corridor.optim._bucket import Bucket

Memory = dict[str, Tensor]
Options = Mapping[str, Any]
Rule = Callable[[Tensor, Tensor, Memory], tuple[Tensor, Memory]]


class Descent:
    """Along the gradient.

    Attributes:
        always: Whether it is at work without momentum, too.
        buffers: What it keeps of each parameter.
        memory: The scalars it keeps.
    """

    always: bool = False
    buffers: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()

    def columns(self, decayed: bool) -> int:
        """How many sums `measure` gives."""
        return 1

    def measure(
        self, bucket: Bucket, options: Options, memory: Memory, decayed: bool, dtype: torch.dtype
    ) -> list[Tensor]:
        """Sums over the bucket, 0-dim, ``||g||^2`` first."""
        return [_tree.squared_norm(bucket.grads, dtype)]

    def plan(
        self, loss: Tensor, sums: Tensor, options: Options, memory: Memory, rule: Rule
    ) -> tuple[Tensor, Memory]:
        """The uncapped step size from the loss and the sums, a row a group, and new memory."""
        return rule(loss, sums.select(1, 0).sum(), memory)

    def move(
        self,
        bucket: Bucket,
        sums: Tensor,
        step: Tensor,
        skip: Tensor,
        keep: Tensor | None,
        options: Options,
        memory: Memory,
    ) -> Tensor | None:
        """Move the bucket's parameters, ``p = keep p - step direction``, or not where ``skip``.

        Returns:
            By how much ``<d, change of p>`` differs from what `settle` took it to be, or None.
        """
        _update.move(bucket, step, skip, keep)

    def settle(
        self, sums: Tensor, steps: Tensor, keeps: Tensor, options: Options, memory: Memory
    ) -> Memory:
        """Memory once the steps are known: sums and steps have a row a group."""
        return memory


class HeavyBall(Descent):
    """Along a velocity that remembers; in the long run each gradient moves by its step size."""

    buffers = (_update.VELOCITY,)

    def move(
        self,
        bucket: Bucket,
        sums: Tensor,
        step: Tensor,
        skip: Tensor,
        keep: Tensor | None,
        options: Options,
        memory: Memory,
    ) -> Tensor | None:
        """Move by the velocity."""
        _update.move_heavy_ball(bucket, step, skip, keep, options["momentum"])


class Average(Descent):
    """Along the average of gradients, to where the average of their linear models meets f_star."""

    buffers = (_average.AVERAGE,)
    memory = ("loss_average", "linear_term", "average_weight", "average_shift")

    def columns(self, decayed: bool) -> int:
        """Three with weight decay, else two."""
        return 3 if decayed else 2

    def measure(
        self, bucket: Bucket, options: Options, memory: Memory, decayed: bool, dtype: torch.dtype
    ) -> list[Tensor]:
        """``||g||^2, ||d||^2`` and, where weight decay asks for it, ``<d, p>``."""
        return _average.measure(bucket, options["momentum"], decayed, dtype)

    def plan(
        self, loss: Tensor, sums: Tensor, options: Options, memory: Memory, rule: Rule
    ) -> tuple[Tensor, Memory]:
        """The step at which the averaged model meets the aim."""
        beta, new = options["momentum"], dict(memory)
        new["loss_average"] = step_size.average(memory["loss_average"], loss, beta)
        new["linear_term"] = beta * (memory["linear_term"] + memory["average_shift"])
        weight = step_size.average(memory["average_weight"], torch.ones_like(loss), beta)
        new["average_weight"] = weight
        aim = options["f_star"]
        if "lower_bound" in memory and options["estimate_f_star"]:
            model = new["loss_average"] + new["linear_term"]
            aim = step_size.lowered_bound(model, weight, memory["lower_bound"], aim)
            new["lower_bound"] = aim
        raw = step_size.momentum(
            new["loss_average"],
            new["linear_term"],
            weight,
            sums.select(1, 1).sum(),
            aim,
            options.get("scale", 1.0),
        )
        return raw, new

    def move(
        self,
        bucket: Bucket,
        sums: Tensor,
        step: Tensor,
        skip: Tensor,
        keep: Tensor | None,
        options: Options,
        memory: Memory,
    ) -> Tensor | None:
        """Move along ``d / rho``; in 16 bits, rounding may swallow part of the step."""
        along = step / memory["average_weight"].to(step)
        seen = _average.move(bucket, along, skip, keep, options["momentum"])
        if seen is None:
            return None
        return seen - _shifts(sums, along, torch.ones_like(step) if keep is None else keep)

    def settle(
        self, sums: Tensor, steps: Tensor, keeps: Tensor, options: Options, memory: Memory
    ) -> Memory:
        """What the steps are about to change along d, and the new estimate of the least loss."""
        along = steps / memory["average_weight"]
        shift = _shifts(sums, along, keeps).sum()
        new = {**memory, "average_shift": shift}
        if "lower_bound" in memory and options["estimate_f_star"]:
            model = memory["loss_average"] + memory["linear_term"]
            new["lower_bound"] = step_size.estimated_bound(
                model,
                memory["average_weight"],
                sums.select(1, 1).sum(),
                along.max(),
                options["f_star"],
            )
        return new


class MetricAverage(Average):
    """The same in Adam's metric, along ``d / D``."""

    always = True
    buffers = (_average.AVERAGE, _metric.SQUARES)
    memory = (*Average.memory, "square_weight", "averaged_steps")
    lengths = False  # whether <g, g / D> is measured, too

    def measure(
        self, bucket: Bucket, options: Options, memory: Memory, decayed: bool, dtype: torch.dtype
    ) -> list[Tensor]:
        """``||g||^2, <d, d / D>`` and, where weight decay asks for it, ``<d, p>``."""
        _metric.begin(bucket, memory["square_weight"])
        weight = self._square_weight(options, memory)
        betas = (options["momentum"], options["beta2"])
        return _metric.measure(bucket, betas, options["eps"], weight, decayed, dtype, self.lengths)

    def plan(
        self, loss: Tensor, sums: Tensor, options: Options, memory: Memory, rule: Rule
    ) -> tuple[Tensor, Memory]:
        """As of `Average`; the squares' weight and count advance, too."""
        raw, new = super().plan(loss, sums, options, memory, rule)
        new["square_weight"] = self._square_weight(options, memory)
        new["averaged_steps"] = memory["averaged_steps"] + 1.0
        return raw, new

    def move(
        self,
        bucket: Bucket,
        sums: Tensor,
        step: Tensor,
        skip: Tensor,
        keep: Tensor | None,
        options: Options,
        memory: Memory,
    ) -> Tensor | None:
        """Move along ``d / (rho D)``."""
        _metric.move(
            bucket,
            step / memory["average_weight"].to(step),
            skip,
            keep,
            (options["momentum"], options["beta2"]),
            options["eps"],
            memory["square_weight"],
            memory["averaged_steps"].float(),
        )

    @staticmethod
    def _square_weight(options: Options, memory: Memory) -> Tensor:
        old = memory["square_weight"]
        return step_size.average(old, torch.ones_like(old), options["beta2"])


class CoherentMetricAverage(MetricAverage):
    """The same, and how well the gradients agree: lengths of theirs and of their average's."""

    memory = (*MetricAverage.memory, "gradient_length_sq", "average_length_sq")
    lengths = True
    past = 0.95  # weight of the past in the two lengths

    def columns(self, decayed: bool) -> int:
        """One more, the gradient's length in the metric, the last."""
        return super().columns(decayed) + 1

    def plan(
        self, loss: Tensor, sums: Tensor, options: Options, memory: Memory, rule: Rule
    ) -> tuple[Tensor, Memory]:
        """As of `MetricAverage`; the averages of both squared lengths advance, too."""
        raw, new = super().plan(loss, sums, options, memory, rule)
        squares = {
            "gradient_length_sq": sums.select(1, -1).sum(),
            "average_length_sq": sums.select(1, 1).sum() / new["average_weight"] ** 2,
        }
        for key, square in squares.items():
            new[key] = step_size.average(memory[key], square, self.past)
        return raw, new

    def settle(
        self, sums: Tensor, steps: Tensor, keeps: Tensor, options: Options, memory: Memory
    ) -> Memory:
        """As of `MetricAverage`."""
        return super().settle(sums.narrow(1, 0, sums.shape[1] - 1), steps, keeps, options, memory)


def _shifts(sums: Tensor, along: Tensor, keeps: Tensor) -> Tensor:
    """``<d, change of p>`` of the steps to come, from rows ``||g||^2, ||d||^2[, <d, p>]``."""
    expected = -along * sums.select(-1, 1)
    return expected if sums.shape[-1] == 2 else expected - (1.0 - keeps) * sums.select(-1, 2)

"""Steps that need ||Hg|| / ||g||: measured on the graph of the watched loss, every few steps."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from corridor import _tree
from corridor.geometry.graph import from_graph
from corridor.optim import step_size
from corridor.optim._loss import Watched, total
from corridor.optim._motion import Memory
from corridor.optim.base import PolyakOptimizer, settle

RATIO = "hessian_ratio"
LIMIT = "drift_limit"
SEEN = "steps_seen"


class MeasuringOptimizer(PolyakOptimizer):
    """A `PolyakOptimizer` that measures the curvature along its direction in one of `every` steps.

    The product is taken at `watch`, from the graph that is there, so that no forward pass is made
    and nothing of the model changes; it counts once that loss is differentiated. The ratio is kept
    between measurements; one that is not finite leaves the last one in use, and where there is none
    yet the next step measures again. Of several watched micro-batches the first is measured, and
    counts for the others by their weights; losses of different kinds are to be added before they
    are watched. Under data parallelism each rank measures its own batch, and the ratios are
    averaged.
    """

    MEMORY: ClassVar = {RATIO: math.inf}
    LEFT = (*PolyakOptimizer.LEFT, SEEN)

    _known = False

    def _measures(self) -> bool:
        """Whether this optimizer, as its options are, needs the ratio at all."""
        return True

    def _ratio_of(self, loss: Tensor) -> Tensor:
        """``||Hg|| / ||g||`` of a loss with its graph, 0-dim."""
        found = from_graph(loss, list(self._leaves()))
        dtype = self._home()[1]
        return _tree.norm(found.product, dtype) / _tree.norm(found.gradient, dtype)

    def _measure(self, loss: Tensor) -> Tensor | None:
        return self._ratio_of(loss) if not self._pending and self._due() else None

    def _due(self) -> bool:
        """Whether the step to come needs a new ratio: one in `every` does, and all before any."""
        if not self._measures():
            return False
        self._settle_scalars(*self._home())  # drift may have been set since the last step
        first = self.param_groups[0]
        if int(first[SEEN]) % first["every"] == 0:
            return True
        if not self._known:  # read back until the first is there, after the first step as a rule
            self._known = math.isfinite(float(first[RATIO]))
        return not self._known

    def _stepped(self) -> None:
        if self._measures():
            self.param_groups[0][SEEN].add_(1)

    def _measured(self, watched: list[Watched]) -> Memory:
        if not self._measures():
            return {}
        if not watched:
            raise ValueError(
                f"{type(self).__name__} needs the graph of the loss, which backward frees: call "
                "opt.watch(loss).backward(), in a closure too, or opt.attach(model) before"
            )
        ratios = [one.measured for one in watched if one.measured is not None]
        if not ratios:
            return {}
        if any(ratio is not ratios[0] for ratio in ratios):
            raise ValueError(
                f"expected {type(self).__name__} to watch one loss at a time, got {len(ratios)} "
                "before either was differentiated: watch their sum, opt.watch(a + b).backward()"
            )
        # k losses added up, not averaged, have k times the Hessian of one.
        weight = total([one.weight for one in watched]).abs()
        return {RATIO: ratios[0] * weight.to(ratios[0])}

    def _memory(self, motion: Any) -> list[str]:
        names = super()._memory(motion)
        return names if self._measures() else [name for name in names if name not in self.MEMORY]

    def _drift_limited(self, raw: Tensor, memory: Memory, tau: float | Tensor) -> Tensor:
        """The step under the limit of relative drift tau, which is left in the memory."""
        memory[LIMIT] = step_size.drift_limited(torch.full_like(raw, math.inf), memory[RATIO], tau)
        return torch.minimum(raw, memory[LIMIT])

    def _settle_scalars(self, device: torch.device, dtype: torch.dtype) -> None:
        super()._settle_scalars(device, dtype)
        if self._measures():
            # On the host, where `watch` reads it; no int, on which a compiled step would depend.
            settle(self.param_groups[0], SEEN, torch.device("cpu"), torch.int64)

    def _restore(self) -> None:
        self._known = False
        super()._restore()

"""Limit steps by the curvature along them, measured on the graph of the watched loss.

The product H P g comes from the graph that `watch` receives, before the backward pass. No forward
pass is made, and the model does not change. Both lengths of the ratio ``|P H P g| / |P g|`` are
taken in the metric of the step, where P = 1 without a metric.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from corridor import _tree
from corridor.geometry.graph import from_graph
from corridor.optim import _options, step_size
from corridor.optim._bucket import Sums
from corridor.optim._limit import Limit
from corridor.optim._loss import Watched
from corridor.optim._metric import LENGTH, OWN_LENGTH
from corridor.optim._options import Memory, Now, Options

RATIO = "hessian_ratio"
LIMIT = "drift_limit"
SEEN = "steps_seen"
SHARE = "share"  # of the coming gradient in P
WEIGHT = "loss_weight"  # sum of the weights of the watched losses
PAST = 0.95  # weight of the past in the two lengths of `CoherentDrift`


class Curvature(Limit):
    """Measure ``|P H P g| / |P g|`` in one of ``every`` steps; subclasses turn it into a bound.

    Of several watched losses the first is measured, and its ratio is scaled to the sum of their
    weights. A metric P may depend on that sum, which is known only at the step. P is computed for
    the sum at the last measurement.
    """

    OPTIONS: ClassVar = {"every": _options.STEPS}
    MEMORY: ClassVar = {RATIO: math.inf, WEIGHT: 1.0}
    counters = (SEEN,)

    def watch(self, loss: Tensor, optimizer: Any) -> Memory:
        options = optimizer.param_groups[0]
        if not self._due(options, optimizer._cache):
            return {}
        share = torch.zeros_like(options[WEIGHT]) + optimizer._motion().metric.share(options)
        return {RATIO: ratio(loss, optimizer) * options[WEIGHT] ** share, SHARE: share}

    def collect(self, watched: list[Watched], owner: str) -> Memory:
        """Return the ratio for the sum of the watched losses, if one was measured."""
        if not watched:
            raise ValueError(
                f"{owner} needs the graph of the loss, which backward frees; call "
                "opt.watch(loss).backward(), also in a closure, or opt.attach(model) first"
            )
        found = [one.measured[RATIO] for one in watched if RATIO in one.measured]
        if not found:
            return {}
        if any(ratio is not found[0] for ratio in found):
            raise ValueError(
                f"{owner} must watch one loss at a time, got {len(found)} before either was "
                "differentiated; watch their sum, opt.watch(a + b).backward()"
            )
        # k losses added up, not averaged, have k times the Hessian of one, and a smaller P.
        weight = torch.stack([one.weight for one in watched]).sum().abs().to(found[0])
        weight = weight.masked_fill(weight == 0.0, math.inf)  # measures nothing, and is not learned
        return {RATIO: found[0] * weight ** (1.0 - watched[0].measured[SHARE]), WEIGHT: weight}

    def count(self, options: Options, measured: Memory) -> None:
        # A step that was due and found no measurement leaves it to the next one.
        seen = options[SEEN]
        seen.add_((seen % options["every"] != 0) | (RATIO in measured))

    def _due(self, options: Options, cache: dict[str, Any]) -> bool:
        """Return True if the next step needs a new ratio."""
        if int(options[SEEN]) % options["every"] == 0:
            return True
        if not cache.get(RATIO):  # read from the device until the first finite ratio is there
            cache[RATIO] = math.isfinite(float(options[RATIO]))
        return not cache[RATIO]


class Drift(Curvature):
    """Limit the relative drift of a step from gradient flow to ``drift``."""

    option = "drift"
    OPTIONS: ClassVar = {**Curvature.OPTIONS, "drift": _options.optional(_options.POSITIVE)}
    MEMORY: ClassVar = {**Curvature.MEMORY, LIMIT: math.inf}

    def bound(self, loss: Tensor, sums: Sums, now: Now) -> Tensor:
        # At the limit a step leaves the flow by ``(h^2 / 2) |Hg|``, tau times its length.
        now.memory[LIMIT] = 2.0 * now.options["drift"] / now.memory[RATIO]
        return now.memory[LIMIT]


class CoherentDrift(Drift):
    """Limit the drift in a noisy metric: by the mean ratio, and less where gradients disagree."""

    OPTIONS: ClassVar = {**Drift.OPTIONS, "drift": _options.POSITIVE}
    MEMORY: ClassVar = {
        **Drift.MEMORY,
        **dict.fromkeys(("measurements", "gradient_length_sq", "average_length_sq"), 0.0),
    }
    wanted = (OWN_LENGTH,)

    def learn(self, key: str, value: Tensor, memory: Memory) -> Memory:
        if key != RATIO:
            return super().learn(key, value, memory)
        finite = torch.isfinite(value)
        count = memory["measurements"] + finite
        old = torch.where(memory["measurements"] > 0.0, memory[key], torch.zeros_like(value))
        mean = old + (value - old) / count.clamp(min=1.0)
        return {key: torch.where(finite, mean, memory[key]), "measurements": count}

    def bound(self, loss: Tensor, sums: Sums, now: Now) -> Tensor:
        memory = now.memory
        lengths = {
            "gradient_length_sq": sums.total(OWN_LENGTH),
            "average_length_sq": sums.total(LENGTH) / memory["average_weight"] ** 2,
        }
        for key, square in lengths.items():
            memory[key] = step_size.average(memory[key], square, PAST)
        own, averaged = (memory[key] for key in lengths)
        # The averaged gradient's length over the gradients' root mean square is their coherence.
        coherence = torch.where(own > 0.0, (averaged / own).clamp(max=1.0).sqrt(), 1.0)
        memory[LIMIT] = super().bound(loss, sums, now) * coherence.sqrt()
        return memory[LIMIT]


class DriftAdjusted(Curvature):
    """Limit steps to the drift-adjusted learning rate, ``2 / ratio^power``."""

    OPTIONS: ClassVar = {
        **Curvature.OPTIONS,
        "power": _options.Rule("non-negative and finite", lambda v: 0.0 <= v < math.inf),
    }

    def bound(self, loss: Tensor, sums: Sums, now: Now) -> Tensor:
        rate = 2.0 / now.memory[RATIO] ** now.options["power"]
        return rate.clamp(max=torch.finfo(rate.dtype).max)  # Hg = 0 in a corridor


def ratio(loss: Tensor, optimizer: Any) -> Tensor:
    """Return ``|P H P g| / |P g|``, with the metric P of the coming step, 0-dim."""
    options, metric = optimizer.param_groups[0], optimizer._motion().metric
    dtype = options[WEIGHT].dtype
    scalings: list[Tensor | None] = []

    def along(p: Tensor, g: Tensor) -> Tensor:
        state = optimizer.state.get(p, {})
        scaling = metric.scaling(g * options[WEIGHT], state, options, dtype)
        scalings.append(scaling)
        if scaling is None:
            return g
        real = _tree.as_real(g)
        real = (scaling * real).to(real.dtype)
        return torch.view_as_complex(real) if g.is_complex() else real

    found = from_graph(loss, optimizer._params(), along)

    def length(vectors: list[Tensor]) -> Tensor:
        pairs = zip(map(_tree.as_real, vectors), scalings, strict=True)
        return _tree.norm([v if P is None else P.sqrt() * v for v, P in pairs], dtype)

    return length(found.product) / length(found.gradient)

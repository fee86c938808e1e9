"""Choose what a step moves along: the gradient, a heavy ball, or an average of gradients.

A motion has no state. Its buffers live in the optimizer's ``state``, and its scalars (the memory)
in the first parameter group. Both are passed to every method.

A new averaging is a subclass of `Descent` that names its buffers and its memory.
docs/architecture.md shows an example.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from corridor import _torch, _tree
from corridor.optim import _bucket, step_size
from corridor.optim._bucket import NORM, WEIGHT, Bucket, Stride, Sums, fused_sgd, wide_dtype
from corridor.optim._metric import AVERAGE, LENGTH, SLOPE, Euclidean, Metric, caught_up
from corridor.optim._options import Memory, Now, Options, Sized

VELOCITY = "velocity"
Rule = Callable[[Tensor, Tensor, Memory], Sized]


class Descent:
    """Move along the gradient."""

    always: bool = False  # acts without momentum, too
    coasts: bool = False  # moves at the step size 0, except in a group whose cap is 0
    metric: Metric = Euclidean()
    buffers: tuple[str, ...] = ()  # tensors it keeps per parameter, zeros at first
    memory: Mapping[str, float | str] = {}  # scalars and their first values, or options with these

    def acts(self, options: Options) -> bool:
        """Return True if the options turn the motion on."""
        return self.always or options["momentum"] > 0.0

    def advance(self, options: Options, memory: Memory) -> Memory:
        """Return the scalars that change before anything is measured."""
        return {}

    def mark(self, kept: dict[str, Tensor], moves: bool, options: Options) -> None:
        """Store in a parameter's state if the parameter takes part in the coming step."""

    def sums(self, decayed: bool, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the sums, `NORM` first, with those ``wanted`` by limits."""
        return (NORM,)

    def measure(self, bucket: Bucket, names: tuple[str, ...], now: Now) -> list[Tensor]:
        """Return the named sums over a bucket, each 0-dim."""
        return [_tree.squared_norm(bucket.grads, now.dtype)]

    def plan(self, loss: Tensor, sums: Sums, now: Now, rule: Rule) -> Sized:
        """Return the step size before any limit, and the new memory, from all ranks' sums."""
        return rule(loss, sums.total(NORM), now.memory)

    def move(self, bucket: Bucket, sums: Sums, stride: Stride, now: Now) -> Tensor | None:
        """Move, and return how far ``<d, change of p>`` is from what `settle` assumes."""
        bucket.descend(stride)

    def settle(self, sums: Sums, sizes: Tensor, keeps: Tensor, now: Now) -> Memory:
        """Return the memory after the step sizes and the factors of weight decay are known."""
        return now.memory


class HeavyBall(Descent):
    """Move by a velocity, ``v = beta v - (1 - beta) h g``, ``p = p + v``."""

    coasts = True
    buffers = (VELOCITY,)

    def move(self, bucket: Bucket, sums: Sums, stride: Stride, now: Now) -> Tensor | None:
        beta, velocities, size = now.options["momentum"], bucket.buffers[VELOCITY], stride.size
        part = stride._replace(size=(1.0 - beta) * size)
        forward = stride._replace(size=-torch.ones_like(size))
        if bucket.fused:
            fading = torch.where(stride.skip, torch.ones_like(size), torch.full_like(size, beta))
            _torch.foreach_mul_(velocities, fading)
            fused_sgd(velocities, bucket.grads, part)
            bucket.decay(stride.keep)
            fused_sgd(bucket.params, velocities, forward)
            return None
        for p, g, v in zip(bucket.params, bucket.grads, velocities, strict=True):
            wide = wide_dtype(p.dtype, g.dtype, size.dtype)
            faster = beta * v.to(wide) - part.size * g.to(wide)
            _tree.assign([v], [torch.where(stride.skip, v, faster.to(v.dtype))])
            _tree.assign([p], [forward.moved(p, v)])
        return None


class Average(Descent):
    """Move along the averaged gradient, to where the averaged linear models meet f_star.

    All parameters share the sum of the weights. In a missed step, the average of a
    parameter counts as its gradient. Before its first step, its first gradient counts.
    """

    def __init__(self, metric: Metric) -> None:
        scalars = ("loss_average", "linear_term", WEIGHT, "average_shift", *metric.memory)
        self.metric, self.always = metric, metric.always
        self.buffers = (AVERAGE, *metric.buffers)
        self.memory = {**dict.fromkeys(scalars, 0.0), "last_f_star": "f_star"}

    def acts(self, options: Options) -> bool:
        return super().acts(options) or bool(options.get("estimate_f_star"))

    def advance(self, options: Options, memory: Memory) -> Memory:
        return self.metric.advance(options, memory)

    def mark(self, kept: dict[str, Tensor], moves: bool, options: Options) -> None:
        """Store the weights of the averages: shared with the group, or copies while p rests."""
        for key in [key for key in _bucket.WEIGHTS if key in self.memory and AVERAGE in kept]:
            if moves or kept.get(key, options[key]) is options[key]:
                kept[key] = options[key] if moves else options[key].clone()

    def sums(self, decayed: bool, wanted: tuple[str, ...]) -> tuple[str, ...]:
        named = (NORM, LENGTH, SLOPE) if decayed else (NORM, LENGTH)
        return (*named, *(name for name in wanted if name not in named))

    def measure(self, bucket: Bucket, names: tuple[str, ...], now: Now) -> list[Tensor]:
        for key, (name, _) in _bucket.WEIGHTS.items():
            rows = zip(bucket.grads, bucket.weights, bucket.buffers.get(name, []), strict=False)
            for i, (g, weights, old) in enumerate(rows):
                known = None if i in bucket.fresh.get(name, []) else old
                new = caught_up(key, known, weights, g, now.options)
                if new is not old:
                    _tree.assign([old], [new.to(old.dtype)])
        return self.metric.measure(bucket, names, now)

    def plan(self, loss: Tensor, sums: Sums, now: Now, rule: Rule) -> Sized:
        options, memory, new = now.options, now.memory, dict(now.memory)
        beta, aim, past = options["momentum"], options["f_star"], memory["loss_average"]
        new["last_f_star"] = torch.full_like(loss, aim)
        if not options.get("estimate_f_star"):  # earlier losses keep their distance to their f_star
            past = past + memory[WEIGHT] * (new["last_f_star"] - memory["last_f_star"])
        new["loss_average"] = step_size.average(past, loss, beta)
        new["linear_term"] = beta * (memory["linear_term"] + memory["average_shift"])
        weight = step_size.average(memory[WEIGHT], torch.ones_like(loss), beta)
        new[WEIGHT] = weight
        if options.get("estimate_f_star"):
            model = new["loss_average"] + new["linear_term"]
            aim = step_size.lowered_bound(model, weight, memory["lower_bound"], aim)
            new["lower_bound"] = aim
        model, scale = (new["loss_average"], new["linear_term"]), options.get("scale", 1.0)
        length = sums.total(LENGTH)
        return step_size.momentum(*model, weight, length, f_star=aim, scale=scale), new

    def move(self, bucket: Bucket, sums: Sums, stride: Stride, now: Now) -> Tensor | None:
        along = stride._replace(size=stride.size / now.memory[WEIGHT].to(stride.size))
        seen = self.metric.move(bucket, along, now)
        if seen is None:
            return None
        keep = torch.ones_like(stride.size) if stride.keep is None else stride.keep
        return seen - _shifts(sums, along.size, keep)

    def settle(self, sums: Sums, sizes: Tensor, keeps: Tensor, now: Now) -> Memory:
        options, memory = now.options, now.memory
        along = sizes / memory[WEIGHT]
        new = {**memory, "average_shift": _shifts(sums, along, keeps).sum()}
        if options.get("estimate_f_star"):
            model = (memory["loss_average"] + memory["linear_term"], memory[WEIGHT])
            ends = (sums.total(LENGTH), along.max(), options["f_star"])
            new["lower_bound"] = step_size.estimated_bound(*model, *ends)
        return new


def _shifts(sums: Sums, along: Tensor, keeps: Tensor) -> Tensor:
    """Return ``<d, change of p>`` of the coming steps, one value per row."""
    expected = -along * sums.of(LENGTH)
    if SLOPE not in sums.names:
        return expected
    return expected - (1.0 - keeps) * sums.of(SLOPE)

"""Measure gradients in a metric, and move along the direction that the metric gives them.

A metric gives a gradient g a direction P g and the squared length ``<g, P g>``. The step along P d,
d the average of the gradients, needs ``<d, P d>``, and a gradient that is not finite must not reach
d on any rank. So all lengths are measured first, and d and the parameters change in a second pass.

A new metric is a subclass of `Metric` that overrides `direction`. A faster `measure` or `move` is
optional. docs/architecture.md shows an example.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from corridor import _torch, _tree
from corridor.optim import _bucket, _options, step_size
from corridor.optim._bucket import AVERAGE, NORM, SQUARES, Bucket, Stride, fused_sgd, wide_dtype
from corridor.optim._options import Memory, Now, Options

Kept = dict[str, Tensor]

LENGTH = "length_sq"  # <d, P d>
SLOPE = "slope"  # <d, p>, needed with weight decay
OWN_LENGTH = "gradient_length_sq"  # <g, P g>

CANCELLED = 1e3  # units of rounding
BLOCK = 1 << 16  # entries that a CPU's cache holds


class Metric:
    """Define a metric. `direction` must be overridden; the rest has defaults."""

    always: bool = True  # acts without momentum, too
    tracks: bool = True  # measures 16-bit moves, because rounding can lose part of them
    buffers: tuple[str, ...] = ()  # tensors it keeps per parameter, zeros at first
    memory: tuple[str, ...] = ()  # scalars it keeps, 0 at first
    OPTIONS: ClassVar[Mapping[str, _options.Rule]] = {}

    def direction(self, d: Tensor, g: Tensor, kept: Kept, now: Now) -> tuple[Tensor, Kept]:
        """Return ``P d`` and new values for the buffers, from d, the gradient and the buffers."""
        raise NotImplementedError

    def advance(self, options: Options, memory: Memory) -> Memory:
        """Return the metric's scalars for the next step."""
        return {}

    def scaling(
        self, g: Tensor, v: Mapping[str, Tensor], options: Options, dtype: torch.dtype
    ) -> Tensor | None:
        """Return the diagonal of P at the next step, or None where P = 1."""

    def share(self, options: Options) -> Tensor | float:
        """Return s if P falls as ``k^-s`` where the next gradient is k times as long."""
        return 0.0

    def average(self, d: Tensor, g: Tensor, beta: float, dtype: torch.dtype) -> Tensor:
        """Return the new average, rounded as it will be stored."""
        wide = wide_dtype(d.dtype, g.dtype, dtype)
        return torch.lerp(d.to(wide), g.to(wide), 1.0 - beta).to(d.dtype)

    def measure(self, bucket: Bucket, names: tuple[str, ...], now: Now) -> list[Tensor]:
        """Return the named sums over a bucket, each 0-dim."""
        beta, dtype = now.options["momentum"], now.dtype
        sums: dict[str, list[Tensor]] = {name: [] for name in names}
        for p, g, kept in bucket.rows():
            d = self.average(kept[AVERAGE], g, beta, dtype)
            along, _ = self.direction(d, g, kept, now)
            pairs = {NORM: (g, g), LENGTH: (d, along), SLOPE: (d, p)}
            if OWN_LENGTH in names:
                pairs[OWN_LENGTH] = (g, self.direction(g, g, kept, now)[0])
            for name in names:
                sums[name].append(_tree.dot([pairs[name][0]], [pairs[name][1]], dtype))
        return [torch.stack(sums[name]).sum() for name in names]

    def move(self, bucket: Bucket, stride: Stride, now: Now) -> Tensor | None:
        """Move, and return ``<d, change of p>`` where rounding to 16 bits can lose part of it."""
        seen, beta, dtype = [], now.options["momentum"], now.dtype
        for p, g, kept in bucket.rows():
            d = self.average(kept[AVERAGE], g, beta, dtype)
            along, new = self.direction(d, g, kept, now)
            after = stride.moved(p, along)
            if self.tracks and bucket.rounds and bucket.share is None:
                seen.append((d.to(dtype) * (after.to(dtype) - p.to(dtype))).sum())
            _tree.assign([p], [after])
            for name, value in {AVERAGE: d, **new}.items():
                old = kept[name]
                _tree.assign([old], [torch.where(stride.skip, old, value.to(old.dtype))])
        return torch.stack(seen).sum() if seen else None


class Euclidean(Metric):
    """Measure in the Euclidean metric, P = 1."""

    always = False

    def direction(self, d: Tensor, g: Tensor, kept: Kept, now: Now) -> tuple[Tensor, Kept]:
        return d, {}

    def measure(self, bucket: Bucket, names: tuple[str, ...], now: Now) -> list[Tensor]:
        ds, gs, ps = bucket.buffers[AVERAGE], bucket.grads, bucket.params
        old, new, dtype = now.options["momentum"], 1.0 - now.options["momentum"], now.dtype
        if bucket.fused and not bucket.rounds:
            gg, dg, dd = _tree.gram(ds, gs, dtype)
            length = old * old * dd + 2.0 * old * new * dg + new * new * gg
            # Where d and g nearly cancel, rounding dominates. The step is then rather too short.
            least = CANCELLED * torch.finfo(dtype).eps * (old * old * dd + new * new * gg)
            sums: dict[str, Tensor] = {LENGTH: torch.maximum(length, least)}
            if SLOPE in names:
                sums[SLOPE] = old * _tree.dot(ds, ps, dtype) + new * _tree.dot(gs, ps, dtype)
        else:
            gg = _tree.squared_norm(gs, dtype)
            sums = dict.fromkeys((LENGTH, SLOPE), torch.zeros_like(gg))
            for part in bucket.portions():
                pairs = zip(ds[part], gs[part], strict=True)
                formed = [self.average(d, g, old, dtype) for d, g in pairs]
                sums[LENGTH] = sums[LENGTH] + _tree.squared_norm(formed, dtype)
                if SLOPE in names:
                    sums[SLOPE] = sums[SLOPE] + _tree.dot(formed, ps[part], dtype)
        return [sums.get(name, gg) for name in names]  # NORM and OWN_LENGTH are ||g||^2

    def move(self, bucket: Bucket, stride: Stride, now: Now) -> Tensor | None:
        beta = now.options["momentum"]
        # The kernel stores no average where beta is 0, and hides how far 16 bits have moved.
        if not bucket.fused or beta == 0.0 or bucket.rounds:
            return super().move(bucket, stride, now)
        bucket.decay(stride.keep)
        fused_sgd(bucket.params, bucket.grads, stride, bucket.buffers[AVERAGE], beta)
        return None


class Adam(Metric):
    """Measure in Adam's metric, ``P = 1 / (sqrt(v / rho) + eps)``, rho the sum of v's weights."""

    tracks = False  # its steps are as long as the cap allows, and rounding loses little of them
    buffers = (SQUARES,)
    memory = ("square_weight",)
    OPTIONS: ClassVar = {"beta2": _options.FRACTION, "eps": _options.POSITIVE}

    def advance(self, options: Options, memory: Memory) -> Memory:
        old = memory["square_weight"]
        return {"square_weight": step_size.average(old, torch.ones_like(old), options["beta2"])}

    def direction(self, d: Tensor, g: Tensor, kept: Kept, now: Now) -> tuple[Tensor, Kept]:
        squares = _squares(kept[SQUARES], g, now.options["beta2"], d.dtype)
        root = (squares / now.memory["square_weight"].to(g.device)).sqrt()
        return d / root.add(now.options["eps"]), {SQUARES: squares}

    def scaling(
        self, g: Tensor, v: Mapping[str, Tensor], options: Options, dtype: torch.dtype
    ) -> Tensor | None:
        g, old = _tree.as_real(g), options["square_weight"].to(g.device)
        weight = step_size.average(old, torch.ones_like(old), options["beta2"])
        past = _tree.as_real(v[SQUARES]) if SQUARES in v else None
        past = caught_up("square_weight", past, v, g, options)
        squares = _squares(past, g, options["beta2"], dtype)
        return (squares / weight).sqrt_().add_(options["eps"]).reciprocal_()

    def share(self, options: Options) -> Tensor | float:
        old, beta2 = options["square_weight"], options["beta2"]
        return (1.0 - beta2) / step_size.average(old, torch.ones_like(old), beta2)

    def measure(self, bucket: Bucket, names: tuple[str, ...], now: Now) -> list[Tensor]:
        # Block by block, each tensor is read from memory once.
        beta, beta2, eps = (now.options[key] for key in ("momentum", "beta2", "eps"))
        dtype = now.dtype
        root = now.memory["square_weight"].to(bucket.device, dtype).sqrt()
        parts: list[Tensor] = []
        for p, g, d, v in _blocks(bucket):
            formed = self.average(d, g, beta, dtype)
            # d / (sqrt(v / rho) + eps), up to the factor sqrt(rho) that all entries share
            divisor = _squares(v, g, beta2, dtype).sqrt_().add_(eps * root)
            pairs = {NORM: (g, g), LENGTH: (formed, formed / divisor), SLOPE: (formed, p)}
            if OWN_LENGTH in names:
                pairs[OWN_LENGTH] = (g, g / divisor)
            for x, y in (pairs[name] for name in names):
                wide = wide_dtype(x.dtype, y.dtype)
                parts.append(torch.dot(x.to(wide), y.to(wide)).to(dtype))
        sums = torch.stack(parts).view(-1, len(names)).sum(0).unbind()
        lengths = (LENGTH, OWN_LENGTH)
        return [root * s if name in lengths else s for name, s in zip(names, sums, strict=True)]

    def move(self, bucket: Bucket, stride: Stride, now: Now) -> Tensor | None:
        if not bucket.fused:
            return super().move(bucket, stride, now)
        bucket.decay(stride.keep)
        beta, beta2, eps = (now.options[key] for key in ("momentum", "beta2", "eps"))
        weight = now.memory["square_weight"].to(bucket.device, torch.float64).clamp(max=1.0)
        # The kernel divides v by ``1 - beta2^count``, here rho, and d by ``1 - beta^count``.
        log = math.log(beta2 or sys.float_info.min)
        count = (torch.log1p(-weight) / log).float()
        ds = bucket.buffers[AVERAGE]
        rounding = (weight / -torch.expm1(log * count.double())).sqrt()
        rate = stride.size * rounding * (1.0 - beta ** count.double())
        counts = [count.clone() for _ in ds]  # one each: a skipped step counts them back
        options = {"weight_decay": 0.0, "amsgrad": False, "maximize": False}
        options |= {"beta1": beta, "beta2": beta2, "eps": eps}
        options |= {"lr": rate if rate.is_cpu else rate.float()}
        tensors = (bucket.params, bucket.grads, ds, bucket.buffers[SQUARES], [], counts)
        _torch.fused_adam_(*tensors, **options, found_inf=stride.skip.to(torch.float32))
        return None


def caught_up(
    key: str, old: Tensor | None, weights: Mapping[str, Tensor], g: Tensor, options: Options
) -> Tensor:
    """Return an average with the weight that all parameters share, begun by g if it is None."""
    shared = options[key]
    if old is not None and weights.get(key, shared) is shared:
        return old
    weight, power = shared.to(g.device), g.to(wide_dtype(g.dtype)) ** _bucket.WEIGHTS[key][1]
    first = (weight * power).nan_to_num(0.0, 0.0, 0.0)
    if old is None:
        return first
    past = weights[key].to(weight)
    return torch.where(past > 0.0, weight / past * old, first)


def _squares(v: Tensor, g: Tensor, beta2: float, dtype: torch.dtype) -> Tensor:
    """Return the new average of the squared gradients, at least float32."""
    wide = wide_dtype(v.dtype, g.dtype, dtype)
    return (v.to(wide) * beta2).addcmul_(g.to(wide), g.to(wide), value=1.0 - beta2)


def _blocks(bucket: Bucket) -> Iterator[tuple[Tensor, ...]]:
    """Yield vectors p, g, d, v. Small tensors are joined; on a CPU, large ones are cut."""
    lists = (bucket.params, bucket.grads, bucket.buffers[AVERAGE], bucket.buffers[SQUARES])
    joined: list[list[Tensor]] = []
    size = 0
    for tensors in zip(*lists, strict=True):
        alike = all(t.stride() == tensors[0].stride() for t in tensors)
        flat = [_tree.flatten(t) if alike else t.reshape(-1) for t in tensors]
        length = len(flat[0])
        if size + length > BLOCK and joined:
            yield tuple(map(torch.cat, zip(*joined, strict=True)))
            joined, size = [], 0
        if length < BLOCK:
            joined.append(flat)
            size += length
        elif flat[0].is_cpu:
            yield from zip(*(t.split(BLOCK) for t in flat), strict=True)
        else:
            yield tuple(flat)
    if joined:
        yield tuple(map(torch.cat, zip(*joined, strict=True)))

"""Take one step: measure the buckets, choose the size, and move, without a host read."""

from typing import Any

import torch
from torch import Tensor

from corridor import _reduce, _tree
from corridor.optim import step_size
from corridor.optim._bucket import NORM, PLAIN, Bucket, Stride, Sums
from corridor.optim._limit import Limit
from corridor.optim._motion import Descent
from corridor.optim._options import Memory, Now


class Step:
    """Take one step of an optimizer, whose rule and cap are its methods."""

    def __init__(
        self, optimizer: Any, buckets: list[Bucket], motion: Descent, limits: list[Limit]
    ) -> None:
        self.optimizer, self.groups = optimizer, optimizer.param_groups
        self.buckets, self.motion, self.limits = buckets, motion, limits

    def take(self, loss: Tensor, measured: Memory) -> Tensor:
        """Choose the size and move, from this rank's loss and measurements; return the skip."""
        first = self.groups[0]
        memory = {key: first[key] for key in self.optimizer._scalars(self.motion, self.limits)}
        memory.update(self.motion.advance(first, memory))
        now = Now(first, memory, loss.dtype)
        names, parts = self._measure(now)
        means = torch.stack([loss, *(value.to(loss) for value in measured.values())])
        means, values = self._over_ranks(means, parts, len(names))
        (loss, *values), sums = means.unbind(), Sums(names, values)
        self._learn(dict(zip(measured, values, strict=True)), memory)
        norm_sq = sums.total(NORM)
        _tree.assign([first["grad_norm"]], [norm_sq.sqrt()])
        skip = self._skip(loss, norm_sq)
        raw, new = self.motion.plan(loss, sums, now, self.optimizer.step_size_rule)
        now = now._replace(memory=new)
        for limit in self.limits:
            raw = torch.minimum(raw, limit.bound(loss, sums, now))
        sizes = self._sizes(raw, skip)
        used = sizes[0] / cap_of(first, raw)  # NaN for a cap of 0, which is not at its cap
        self.optimizer._health.note((loss, norm_sq, raw, used, skip.to(raw)), first)
        settled = self._move(parts, sums, sizes, skip, now)
        for key in memory:
            _tree.assign([first[key]], [torch.where(skip, first[key], settled[key])])
        return skip

    def _measure(self, now: Now) -> tuple[tuple[str, ...], list[Tensor]]:
        """Return the names of all sums, and their values for each bucket."""
        parts = []
        decayed = any(group["weight_decay"] for group in self.groups)
        wanted = tuple(name for limit in self.limits for name in limit.wanted)
        names = self.motion.sums(decayed, wanted)
        for bucket in self.buckets:
            values = self.motion.measure(bucket, names, now)
            for limit in self.limits:
                values += limit.measure(bucket, now)
            parts.append(torch.stack(values))
        return (*names, *(name for limit in self.limits for name in limit.sums)), parts

    def _over_ranks(
        self, means: Tensor, parts: list[Tensor], columns: int
    ) -> tuple[Tensor, Tensor]:
        """Return means over ranks, and the sums of all buckets on all ranks, one row per group."""
        rows = [[means.new_zeros(columns)] * len(self.groups) for _ in range(2)]
        for bucket, part in zip(self.buckets, parts, strict=True):
            row = rows[bucket.share is not None]
            weight = 1.0 if bucket.share is None else bucket.share
            row[bucket.group] = row[bucket.group] + weight * part.to(means.device)
        unusual = (p for p in self.optimizer._params() if type(p) not in PLAIN)
        elsewhere = any(map(_reduce.is_sharded, unusual))
        sharded = torch.stack(rows[1]) if elsewhere else None
        means, others = _reduce.over_ranks(means, sharded, self.groups[0]["average_loss"])
        return means, torch.stack(rows[0]) if others is None else torch.stack(rows[0]) + others

    def _learn(self, means: Memory, memory: Memory) -> None:
        """Store the limits' measurements at once: they also count on a skipped step."""
        for key, value in means.items():
            for limit in self.limits:
                if key in limit.MEMORY:
                    learned = limit.learn(key, value, memory)
                    memory.update(learned)
                    held = [self.groups[0][name] for name in learned]
                    _tree.assign(held, list(learned.values()))

    def _skip(self, loss: Tensor, norm_sq: Tensor) -> Tensor:
        """Return True if the step must not be taken, as a 0-dim tensor, and count it."""
        skip = torch.logical_not(step_size.usable(loss, norm_sq))
        verdict = getattr(self.optimizer, "found_inf", None)  # of a GradScaler
        if verdict is not None:  # 0, not a tensor, if there was no gradient
            found_inf = torch.as_tensor(verdict, device=skip.device)
            skip = skip | (found_inf.reshape(()) > 0)
        for group in self.groups:
            if isinstance(group["lr"], Tensor):
                skip = skip | torch.isnan(group["lr"].to(skip.device).reshape(()))
        self.groups[0]["skipped"].add_(skip)
        return skip

    def _sizes(self, raw: Tensor, skip: Tensor) -> list[Tensor]:
        """Return the step size of every group, and store it in ``effective_lr``."""
        raw = torch.where(skip, torch.zeros_like(raw), raw)
        sizes = []
        for group in self.groups:
            size = self.optimizer.capped(raw, cap_of(group, raw)).clamp(min=0.0)
            # A NaN cap on a device shows up only here. The step is skipped, so its size is 0.
            size = torch.where(skip, torch.zeros_like(size), size)
            _tree.assign([group["effective_lr"]], [size])
            sizes.append(size)
        return sizes

    def _move(
        self, parts: list[Tensor], sums: Sums, sizes: list[Tensor], skip: Tensor, now: Now
    ) -> Memory:
        """Move all buckets, and return the memory after the step."""
        rates = [group["weight_decay"] for group in self.groups]
        keeps = [
            (1.0 - rate * size).clamp(min=0.0) if rate else None
            for rate, size in zip(rates, sizes, strict=True)
        ]
        kept = [torch.ones_like(sizes[0]) if keep is None else keep for keep in keeps]
        settled = self.motion.settle(sums, torch.stack(sizes), torch.stack(kept), now)
        for bucket, part in zip(self.buckets, parts, strict=True):
            here, keep, still = bucket.device, keeps[bucket.group], skip
            if self.motion.coasts:
                still = skip | (cap_of(self.groups[bucket.group], sizes[0]) <= 0.0)
            keep = None if keep is None else keep.to(here)
            stride = Stride(sizes[bucket.group].to(here), still.to(here), keep)
            missed = self.motion.move(bucket, Sums(sums.names, part), stride, now)
            if missed is not None:
                settled["average_shift"] = settled["average_shift"] + missed.to(skip.device)
        return settled


def cap_of(group: dict[str, Any], like: Tensor) -> Tensor | float:
    """Return the cap of a group, a tensor 0-dim with the dtype and device of another."""
    cap = group["lr"]
    return cap.to(like).reshape(()) if isinstance(cap, Tensor) else cap

"""The one torch optimizer behind every step-size rule: takes the loss, moves the tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from corridor import _reduce, _tree
from corridor._types import Params
from corridor.optim import _bucket, _motion, _options, _update, step_size
from corridor.optim._bucket import Bucket
from corridor.optim._health import Health
from corridor.optim._loss import LossChannels, Watched
from corridor.optim._motion import Memory

RULE = "rule"  # whose checkpoint it is


class PolyakOptimizer(LossChannels):
    """Steps whose size follows from the loss: the machine that `CLR` and its relatives share.

    A subclass gives the defaults and, where its rule differs, overrides `step_size_rule` and names
    the scalars it remembers. All memory of a step lies in ``param_groups`` and ``state``; see `CLR`
    for the meaning of each key.

    Attributes:
        OPTIONS: the rule's own options, shared by all groups, and what each must be.
        MEMORY: the scalars that the rule remembers, with their first values; a string names the
            option that holds it.
        MOMENTUM: what a step with momentum moves along.
        LEFT: what else a step leaves in the groups.
        CAP: the name of the cap among the arguments.

    Args:
        params: parameters, groups, or named parameters, as for any torch optimizer.
        max_lr: the cap.
        f_star: lower bound of the loss.
        momentum: weight of the past, in [0, 1).
        weight_decay: decoupled, of a group's own.
        average_loss: the loss is averaged over all ranks.
        options: the rule's own options, by name.
    """

    OPTIONS: ClassVar[Mapping[str, _options.Rule]] = {}
    MEMORY: ClassVar[Mapping[str, float | str]] = {}
    MOMENTUM: ClassVar[_motion.Descent] = _motion.HeavyBall()
    LEFT: ClassVar[tuple[str, ...]] = (RULE, "skipped", "grad_norm", "effective_lr")
    CAP: ClassVar[str] = "max_lr"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in cls.__dict__:
            cls.__init__ = _options.naming(cls.__init__)

    @_options.naming
    def __init__(
        self,
        params: Params,
        max_lr: float = 1.0,
        *,
        f_star: float = 0.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        average_loss: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._health = Health()
        defaults = {
            "lr": max_lr,
            "f_star": f_star,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "average_loss": average_loss,
            **(options or {}),
        }
        if not isinstance(params, Tensor):
            params = list(params)  # pyright: ignore[reportAssignmentType]
            groups = [group for group in params if isinstance(group, dict)]
            _options.check_given(groups, self._shared(), type(self).__name__)
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step.

        Args:
            closure: computes the loss, runs backward and returns the loss.
            loss: the loss whose gradient lies in ``.grad``, a scalar tensor or a number.

        Returns:
            What the closure returned, else the loss given, else None.

        Raises:
            ValueError: no loss came, or two did, or it is no scalar; a cap is NaN, an option out of
                range, a gradient sparse.
        """
        try:
            given, value, watched = self._take_loss(closure, loss)
            _options.check(self.param_groups, self._shared())
            _options.check_no_nan(self.param_groups)
            motion = self._motion()
            measured = {} if value is None else self._measured(watched)
            found = _bucket.buckets(self.param_groups, self.state, motion.buffers)
            if getattr(self, "grad_scale", None) is not None:
                _update.unscale(found, self.grad_scale)  # pyright: ignore
        except ValueError:
            self._forget_scaler()
            raise
        device, dtype = self._home()
        self._settle_scalars(device, dtype)
        if value is not None:
            value = _reduce.whole(value).to(device=device, dtype=dtype)
            self._step(value, found, motion, measured)
            self._stepped()
        return given

    def step_size_rule(
        self, loss: Tensor, norm_sq: Tensor, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """The uncapped step size from loss and squared gradient norm, and the rule's new memory.

        Everything is 0-dim; memory holds the scalars that `MEMORY` names.
        """
        first = self.param_groups[0]
        return step_size.clr(loss, norm_sq, first["f_star"], first.get("scale", 1.0)), memory

    def step_size_at(self, loss: Tensor, norm_sq: Tensor) -> Tensor:
        """The first group's step size for a loss and a squared gradient norm, without momentum.

        Nothing is remembered of it: the next step is what it would have been.
        """
        self._settle_scalars(*self._home())  # an option may have been set since the last step
        first = self.param_groups[0]
        memory = {key: first[key] for key in self._memory(self._motion())}
        raw, _ = self.step_size_rule(loss, norm_sq, memory)
        raw, cap = self.bound(raw, memory), first["lr"]
        return self.limit(raw, cap.to(raw) if isinstance(cap, Tensor) else cap)

    def bound(self, raw: Tensor, memory: Memory) -> Tensor:
        """The step size under what the rule knows beside the loss; before any cap."""
        return raw

    def limit(self, raw: Tensor, cap: Tensor | float) -> Tensor:
        """The step size under a group's cap."""
        return torch.clamp(raw, max=cap)

    def _step(
        self, loss: Tensor, found: list[Bucket], motion: _motion.Descent, measured: Memory
    ) -> None:
        first = self.param_groups[0]
        memory = {key: first[key] for key in self._memory(motion)}
        decayed = any(group["weight_decay"] for group in self.param_groups)
        parts = [torch.stack(motion.measure(b, first, memory, decayed, loss.dtype)) for b in found]
        means = torch.stack([loss, *(value.to(loss) for value in measured.values())])
        means, sums = self._over_ranks(means, found, parts, motion.columns(decayed))
        loss, *values = means.unbind()
        for key, value in zip(measured, values, strict=True):  # whatever becomes of the step
            learned = self._learned(key, value, memory)
            memory.update(learned)
            _tree.assign([first[name] for name in learned], list(learned.values()))
        norm_sq = sums.select(1, 0).sum()
        _tree.assign([first["grad_norm"]], [norm_sq.sqrt()])
        skip = self._skip(loss, norm_sq)
        raw, new = motion.plan(loss, sums, first, memory, self.step_size_rule)
        raw = self.bound(raw, new)
        steps = self._cap(raw, skip)
        self._health.note(loss, raw, steps[0], skip, self.param_groups)
        keeps = [self._keep(group, h) for group, h in zip(self.param_groups, steps, strict=True)]
        kept = [torch.ones_like(loss) if keep is None else keep for keep in keeps]
        settled = motion.settle(sums, torch.stack(steps), torch.stack(kept), first, new)
        for bucket, part in zip(found, parts, strict=True):
            here, keep = bucket.device, keeps[bucket.group]
            step = steps[bucket.group].to(here)
            keep = None if keep is None else keep.to(here)
            missed = motion.move(bucket, part, step, skip.to(here), keep, first, new)
            if missed is not None:
                settled["average_shift"] = settled["average_shift"] + missed.to(loss.device)
        for key in memory:
            _tree.assign([first[key]], [torch.where(skip, first[key], settled[key])])

    def _measured(self, watched: list[Watched]) -> Memory:
        """What this rank measured for its rule beside the loss, by the name in memory; 0-dim."""
        return {}

    def _learned(self, key: str, value: Tensor, memory: Memory) -> Memory:
        """What a measurement changes in the memory: a value that is not finite, nothing."""
        return {key: torch.where(torch.isfinite(value), value, memory[key])}

    def _stepped(self) -> None:
        """Called at the end of every step, taken or skipped."""

    def _over_ranks(
        self, means: Tensor, found: list[Bucket], parts: list[Tensor], columns: int
    ) -> tuple[Tensor, Tensor]:
        """Means over ranks, and the sums of all buckets on all ranks, a row a group."""
        rows = [[means.new_zeros(columns)] * len(self.param_groups) for _ in range(2)]
        for bucket, part in zip(found, parts, strict=True):
            row = rows[bucket.share is not None]
            weight = 1.0 if bucket.share is None else bucket.share
            row[bucket.group] = row[bucket.group] + weight * part.to(means.device)
        sharded = torch.stack(rows[1]) if self._sharded() else None
        average = self.param_groups[0]["average_loss"]
        means, others = _reduce.over_ranks(means, sharded, average)
        return means, torch.stack(rows[0]) if others is None else torch.stack(rows[0]) + others

    def _sharded(self) -> bool:
        """Whether sums over gradients must be completed by other ranks."""
        params = (p for group in self.param_groups for p in group["params"])
        return any(type(p) not in _bucket.PLAIN and _reduce.is_sharded(p) for p in params)

    def _skip(self, loss: Tensor, norm_sq: Tensor) -> Tensor:
        """Whether the step must not be taken, counted; a 0-dim bool tensor."""
        skip = torch.logical_not(step_size.usable(loss, norm_sq))
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            found_inf = torch.as_tensor(found_inf, device=skip.device)  # 0 without any gradient
            skip = skip | (found_inf.reshape(()) > 0)
        for group in self.param_groups:
            if isinstance(group["lr"], Tensor):
                skip = skip | torch.isnan(group["lr"].to(skip.device).reshape(()))
        self.param_groups[0]["skipped"].add_(skip)
        return skip

    def _cap(self, raw: Tensor, skip: Tensor) -> list[Tensor]:
        """The step size of every group, left in ``effective_lr`` too."""
        raw = torch.where(skip, torch.zeros_like(raw), raw)
        steps = []
        for group in self.param_groups:
            cap = group["lr"]
            cap = cap.to(raw).reshape(()) if isinstance(cap, Tensor) else cap
            step = self.limit(raw, cap).clamp(min=0.0)
            # A NaN cap on a device shows up only here; the step is skipped, and is 0.
            step = torch.where(skip, torch.zeros_like(step), step)
            _tree.assign([group["effective_lr"]], [step])
            steps.append(step)
        return steps

    def _keep(self, group: dict[str, Any], step: Tensor) -> Tensor | None:
        """The factor of decoupled weight decay, ``1 - h weight_decay``, or None without."""
        rate = group["weight_decay"]
        return (1.0 - rate * step).clamp(min=0.0) if rate else None

    def _forget_scaler(self) -> None:
        """Drop what GradScaler had set for this step; it does so itself only if the step ends."""
        for name in ("grad_scale", "found_inf"):
            self.__dict__.pop(name, None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may carry a cap of its own (``max_lr`` or ``lr``) and weight_decay."""
        admitted = _options.admitted(
            param_group,
            self.param_groups,
            self.defaults,
            self._shared(),
            self._names(),
            self.CAP,
            {*self.LEFT, *self.MEMORY, *self.MOMENTUM.memory},
            type(self).__name__,
        )
        super().add_param_group(admitted)
        self._settle_scalars(*self._home())

    @classmethod
    def _names(cls) -> list[str]:
        """Return the options that the constructor names."""
        inits = (kind.__dict__["__init__"] for kind in cls.__mro__ if "__init__" in kind.__dict__)
        named = next(names for names in map(_options.arguments, inits) if names is not None)
        return [name for name in named if name not in ("params", "options")]

    def _shared(self) -> Mapping[str, _options.Rule]:
        return {**_options.SHARED, **self.OPTIONS}

    def _motion(self) -> _motion.Descent:
        """What a step moves along; what has begun to remember goes on when momentum is 0."""
        momentum = self.param_groups[0]["momentum"]
        moving = self.MOMENTUM.always or momentum > 0.0 or any(map(bool, self.state.values()))
        return self.MOMENTUM if moving else _motion.Descent()

    def _memory(self, motion: _motion.Descent) -> list[str]:
        return [*motion.memory, *self.MEMORY]

    def _home(self) -> tuple[torch.device, torch.dtype]:
        """Device and dtype of the step size: the first parameter's device, float32 or float64."""
        params = [p for group in self.param_groups for p in group["params"]]
        device = params[0].device if params else torch.device("cpu")
        return device, _tree.accumulation_dtype(params)

    def _settle_scalars(self, device: torch.device, dtype: torch.dtype) -> None:
        """Make the scalars a step leaves in the groups, or move them after the parameters."""
        first = self.param_groups[0]
        first[RULE] = type(self).__name__
        settle(first, "skipped", device, torch.int64)
        settle(first, "grad_norm", device, dtype)
        for key in self._memory(self._motion()):
            start = self.MEMORY.get(key, 0.0)
            start = first[start] if isinstance(start, str) else start
            settle(first, key, device, dtype, start)
        for group in self.param_groups:
            settle(group, "effective_lr", device, dtype)

    def state_dict(self) -> dict[str, Any]:
        """State and groups; the scalars are copies, so that a snapshot stays what it was."""
        saved = super().state_dict()
        saved["param_groups"] = [
            {k: v.clone() if isinstance(v, Tensor) else v for k, v in group.items()}
            for group in saved["param_groups"]
        ]
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave.

        From another optimizer's checkpoint come the caps and the weight decay and, where both keep
        the same ones, averages or velocities. The rule's options and memory stay as they are here.
        """
        super().load_state_dict(self._understood(state_dict))
        self._restore()

    def _understood(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """What of a checkpoint means the same here."""
        theirs = state_dict["param_groups"]
        ours = theirs and theirs[0].get(RULE) == type(self).__name__
        if ours or len(theirs) != len(self.param_groups):
            return state_dict
        taken = {"params", "initial_lr", *_options.OWN, *self.MOMENTUM.memory}
        groups = [
            {**mine, **{key: value for key, value in group.items() if key in taken}}
            for mine, group in zip(self.param_groups, theirs, strict=True)
        ]
        state = {
            index: {name: kept[name] for name in self.MOMENTUM.buffers if name in kept}
            for index, kept in state_dict["state"].items()
        }
        return {**state_dict, "param_groups": groups, "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._restore()

    def _restore(self) -> None:
        self._pending.clear()
        self._health = Health()
        for group in self.param_groups:
            for key in (*_options.OWN, *self._shared()):
                group.setdefault(key, self.defaults[key])
        if self.param_groups:
            _options.check(self.param_groups, self._shared())
            self._settle_scalars(*self._home())


def settle(
    group: dict[str, Any], key: str, device: torch.device, dtype: torch.dtype, start: Any = 0.0
) -> None:
    """Make a scalar of a group where it is missing, or move it after the parameters."""
    value = group.get(key)
    if not isinstance(value, Tensor) or value.is_meta != (device.type == "meta"):
        group[key] = torch.full((), float(start), device=device, dtype=dtype)
    elif value.device != device or value.dtype != dtype:
        group[key] = value.to(device=device, dtype=dtype)

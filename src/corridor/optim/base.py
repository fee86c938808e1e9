"""The one torch optimizer behind every step-size rule: takes the loss, moves the tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from corridor import _reduce, _tree
from corridor._types import Params
from corridor.optim import _options, _update, step_size
from corridor.optim._loss import LossChannels
from corridor.optim._update import Bucket


class PolyakOptimizer(LossChannels):
    """Steps whose size follows from the loss: the machine that `CLR` and its relatives share.

    A subclass gives the defaults and, where its rule without momentum differs, overrides
    `step_size_rule`. All memory of a step lies in ``param_groups`` and ``state``; see `CLR` for
    the meaning of each key.
    """

    def __init__(self, params: Params, max_lr: float, **defaults: Any) -> None:
        super().__init__(params, {"lr": max_lr, "weight_decay": 0.0, **defaults})

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
            given, value = self._take_loss(closure, loss)
            _options.check(self.param_groups)
            _options.check_no_nan(self.param_groups)
            found = _update.buckets(self.param_groups, self.state, self._averaging())
            self._unscale(found)
        except ValueError:
            self._forget_scaler()
            raise
        device, dtype = self._home()
        self._settle_scalars(device, dtype)
        if value is None:
            return given
        value = _reduce.mean_over_ranks(value.to(device=device, dtype=dtype))
        if self._averaging():
            self._step_averaged(value, found)
        else:
            self._step_plain(value, found)
        return given

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor) -> Tensor:
        """The uncapped step size from loss and squared gradient norm, 0-dim tensors."""
        first = self.param_groups[0]
        return step_size.clr(loss, norm_sq, first["f_star"], first["scale"])

    def _step_plain(self, loss: Tensor, found: list[Bucket]) -> None:
        norm_sq = self._grad_norm_sq(loss, found)
        skip = self._skip(loss, norm_sq)
        steps = self._cap(self.step_size_rule(loss, norm_sq), skip)
        for bucket in found:
            step = steps[bucket.group].to(bucket.device)
            keep = self._keep(bucket, step)
            _update.move(bucket, bucket.grads, step, skip.to(bucket.device), keep)

    def _step_averaged(self, loss: Tensor, found: list[Bucket]) -> None:
        first = self.param_groups[0]
        beta = first["momentum"]
        skip = self._skip(loss, self._grad_norm_sq(loss, found))
        norms = [
            _update.average(bucket, skip.to(bucket.device), beta, loss.dtype).to(loss.device)
            for bucket in found
        ]
        loss_average = step_size.average(first["loss_average"], loss, beta)
        linear_term = beta * (first["linear_term"] + first["average_shift"])
        weight = step_size.average(first["average_weight"], torch.ones_like(loss), beta)
        norm_sq = self._total(norms, loss)
        raw = step_size.momentum(
            loss_average, linear_term, weight, norm_sq, first["f_star"], first["scale"]
        )
        steps = self._cap(raw, skip)
        shifts = []
        for bucket, norm in zip(found, norms, strict=True):
            along = (steps[bucket.group] / weight).to(bucket.device)
            keep = self._keep(bucket, steps[bucket.group].to(bucket.device))
            expected = _update.expected_shift(bucket, along, norm, keep)
            seen = _update.move(bucket, bucket.averages, along, skip.to(bucket.device), keep)
            shifts.append(expected if seen is None else seen)
        averages = (loss_average, linear_term, weight, self._total(shifts, loss))
        for key, new in zip(_options.AVERAGES, averages, strict=True):
            _tree.assign([first[key]], [torch.where(skip, first[key], new)])

    def _grad_norm_sq(self, like: Tensor, found: list[Bucket]) -> Tensor:
        """``||g||^2``, its root left in ``grad_norm``."""
        norm_sq = self._total([_tree.squared_norm(b.grads, like.dtype) for b in found], like)
        _tree.assign([self.param_groups[0]["grad_norm"]], [norm_sq.sqrt()])
        return norm_sq

    def _keep(self, bucket: Bucket, step: Tensor) -> Tensor | None:
        """The factor of decoupled weight decay, ``1 - h weight_decay``, or None without."""
        rate = self.param_groups[bucket.group]["weight_decay"]
        return (1.0 - rate * step).clamp(min=0.0) if rate else None

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
            limit = cap.to(raw).reshape(()) if isinstance(cap, Tensor) else cap
            step = torch.clamp(raw, max=limit).clamp(min=0.0)
            # A NaN cap on a device shows up only here; the step is skipped, and is 0.
            step = torch.where(skip, torch.zeros_like(step), step)
            _tree.assign([group["effective_lr"]], [step])
            steps.append(step)
        return steps

    def _unscale(self, found: list[Bucket]) -> None:
        grad_scale = getattr(self, "grad_scale", None)
        if grad_scale is not None:
            _update.unscale(found, grad_scale)

    def _forget_scaler(self) -> None:
        """Drop what GradScaler had set for this step; it does so itself only if the step ends."""
        for name in ("grad_scale", "found_inf"):
            self.__dict__.pop(name, None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may carry a cap of its own (``max_lr`` or ``lr``) and weight_decay."""
        super().add_param_group(_options.admitted(param_group, self.param_groups, self.defaults))
        self._settle_scalars(*self._home())

    def _averaging(self) -> bool:
        """Whether gradients are averaged: from the first step with momentum on."""
        first = self.param_groups[0]
        return first["momentum"] > 0.0 or "loss_average" in first

    def _home(self) -> tuple[torch.device, torch.dtype]:
        """Device and dtype of the step size: the first parameter's device, float32 or float64."""
        params = [p for group in self.param_groups for p in group["params"]]
        device = params[0].device if params else torch.device("cpu")
        return device, _tree.accumulation_dtype(params)

    def _settle_scalars(self, device: torch.device, dtype: torch.dtype) -> None:
        """Make the scalars a step leaves in the groups, or move them after the parameters."""
        first = self.param_groups[0]
        self._settle(first, "skipped", device, torch.int64)
        self._settle(first, "grad_norm", device, dtype)
        if self._averaging():
            for key in _options.AVERAGES:
                self._settle(first, key, device, dtype)
        for group in self.param_groups:
            self._settle(group, "effective_lr", device, dtype)

    @staticmethod
    def _settle(group: dict[str, Any], key: str, device: torch.device, dtype: torch.dtype) -> None:
        value = group.get(key)
        if not isinstance(value, Tensor) or value.is_meta != (device.type == "meta"):
            group[key] = torch.zeros((), device=device, dtype=dtype)
        elif value.device != device or value.dtype != dtype:
            group[key] = value.to(device=device, dtype=dtype)

    @staticmethod
    def _total(parts: list[Tensor], like: Tensor) -> Tensor:
        total = torch.zeros_like(like)
        for part in parts:
            total = total + part.to(like.device)
        return total

    def state_dict(self) -> dict[str, Any]:
        """State and groups; the scalars are copies, so that a snapshot stays what it was."""
        saved = super().state_dict()
        saved["param_groups"] = [
            {k: v.clone() if isinstance(v, Tensor) else v for k, v in group.items()}
            for group in saved["param_groups"]
        ]
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave; options a foreign checkpoint lacks keep their defaults."""
        super().load_state_dict(state_dict)
        self._restore()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._restore()

    def _restore(self) -> None:
        self._pending.clear()
        for group in self.param_groups:
            for key in _options.OPTIONS:
                group.setdefault(key, self.defaults[key])
        if self.param_groups:
            _options.check(self.param_groups)
            self._settle_scalars(*self._home())

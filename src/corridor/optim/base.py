"""The one torch optimizer behind every step-size rule: takes the loss, moves the tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from corridor import _reduce, _tree
from corridor._types import Params
from corridor.optim import _update, step_size
from corridor.optim._loss import LossChannels
from corridor.optim._update import Bucket

SHARED = ("f_star", "scale", "momentum")
AVERAGES = ("loss_average", "linear_term", "average_weight", "average_shift")


class PolyakOptimizer(LossChannels):
    """Steps whose size follows from the loss: the machine that `CLR` and its relatives share.

    A subclass gives the defaults and, where its rule differs, overrides `step_size_rule`. All
    memory of a step lies in ``param_groups`` and ``state``; see `CLR` for the meaning of each key.
    """

    def __init__(self, params: Params, max_lr: float, **defaults: Any) -> None:
        self._active: dict[int, tuple[int, ...]] = {}
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
            ValueError: no loss came, or two did, or it is no scalar, or a cap is NaN.
        """
        given, value = self._take_loss(closure, loss)
        device, dtype = self._home()
        value = _reduce.mean_over_ranks(value.to(device=device, dtype=dtype))
        caps = self._caps()
        found = _update.buckets(self.param_groups, self.state, with_average=self._averaging())
        self._settle_scalars(device, dtype)
        grad_scale = getattr(self, "grad_scale", None)
        if grad_scale is not None:
            _update.unscale(found, grad_scale)
        if self._averaging():
            self._step_averaged(value, found, caps)
        else:
            self._step_plain(value, found, caps)
        return given

    def step_size_rule(self, loss: Tensor, norm_sq: Tensor) -> Tensor:
        """The uncapped step size from loss and squared gradient norm, 0-dim tensors."""
        first = self.param_groups[0]
        return step_size.clr(loss, norm_sq, first["f_star"], first["scale"])

    def _step_plain(self, loss: Tensor, found: list[Bucket], caps: list[Any]) -> None:
        norm_sq = self._total([_tree.squared_norm(b.grads, loss.dtype) for b in found], loss)
        _tree.assign([self.param_groups[0]["grad_norm"]], [norm_sq.sqrt()])
        skip = self._skip(loss, norm_sq)
        raw = self.step_size_rule(loss, norm_sq)
        steps = self._cap(raw, skip, caps)
        for bucket in found:
            here = steps[bucket.group].to(bucket.device)
            keep = self._keep(bucket, here)
            _update.apply(bucket, here, skip.to(bucket.device), keep, 0.0)

    def _step_averaged(self, loss: Tensor, found: list[Bucket], caps: list[Any]) -> None:
        first = self.param_groups[0]
        beta = first["momentum"]
        norms = self._average_norms(found, beta, loss)
        norm_sq = self._total([new for _, new in norms.values()], loss)
        skip = self._skip(loss, norm_sq)
        loss_average = step_size.average(first["loss_average"], loss, beta)
        linear_term = beta * (first["linear_term"] + first["average_shift"])
        weight = step_size.average(
            first["average_weight"], torch.ones_like(first["average_weight"]), beta
        )
        raw = step_size.momentum(
            loss_average, linear_term, weight, norm_sq, first["f_star"], first["scale"]
        )
        steps = self._cap(raw, skip, caps)
        shift = self._shift(found, norms, steps, weight, beta)
        for bucket in found:
            here = steps[bucket.group].to(bucket.device)
            along = (steps[bucket.group] / weight).to(bucket.device)
            keep = self._keep(bucket, here)
            _update.apply(bucket, along, skip.to(bucket.device), keep, beta)
        for key, new in zip(AVERAGES, (loss_average, linear_term, weight, shift), strict=True):
            _tree.assign([first[key]], [torch.where(skip, first[key], new)])
        for index, (old, new) in norms.items():
            kept = self.param_groups[index]["average_norm_sq"]
            _tree.assign([kept], [torch.where(skip, old, new)])

    def _average_norms(
        self, found: list[Bucket], beta: float, like: Tensor
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """``||d||^2`` of each group's old and new average, from one pass over d and g."""
        norms: dict[int, tuple[Tensor, Tensor]] = {}
        grads_sq = torch.zeros_like(like)
        for index, group in enumerate(self.param_groups):
            mine = [b for b in found if b.group == index]
            if not mine:
                continue
            old = self._old_norm(index, group, mine, like)
            pairs = [_tree.squared_norm_and_dot(b.grads, b.averages, like.dtype) for b in mine]
            grad_sq = self._total([pair[0] for pair in pairs], like)
            inner = self._total([pair[1] for pair in pairs], like)
            norms[index] = old, step_size.average_norm_sq(old, inner, grad_sq, beta)
            grads_sq = grads_sq + grad_sq
        _tree.assign([self.param_groups[0]["grad_norm"]], [grads_sq.sqrt()])
        return norms

    def _old_norm(
        self, index: int, group: dict[str, Any], mine: list[Bucket], like: Tensor
    ) -> Tensor:
        """``||d||^2`` before the step: remembered where it can be, measured where it cannot.

        It must be measured when other parameters have gradients than at the last step, and for
        16-bit averages, whose rounding the recursion does not see.
        """
        active = tuple(i for b in mine for i in b.ids)
        known = self._active.get(index)
        same = known in (None, active) and group["active"] == len(active)
        self._active[index] = active
        group["active"] = len(active)
        coarse = any(b.averages[0].element_size() < 4 for b in mine)
        if same and not coarse:
            return group["average_norm_sq"]
        return self._total([_tree.squared_norm(b.averages, like.dtype) for b in mine], like)

    def _shift(
        self,
        found: list[Bucket],
        norms: dict[int, tuple[Tensor, Tensor]],
        steps: list[Tensor],
        weight: Tensor,
        beta: float,
    ) -> Tensor:
        """``<d, x_{k+1} - x_k>``; x itself is read only for weight decay."""
        total = torch.zeros_like(weight)
        for index, (_, norm_sq) in norms.items():
            total = total - steps[index] / weight * norm_sq
        for b in found:
            rate = self.param_groups[b.group]["weight_decay"]
            if rate:
                inner = beta * _tree.dot(b.averages, b.params, weight.dtype)
                inner = inner + (1.0 - beta) * _tree.dot(b.grads, b.params, weight.dtype)
                lost = (rate * steps[b.group]).clamp(max=1.0)
                total = total - lost * inner.to(total.device)
        return total

    def _keep(self, bucket: Bucket, step: Tensor) -> Tensor | None:
        """The factor of decoupled weight decay, ``1 - h weight_decay``, or None without."""
        rate = self.param_groups[bucket.group]["weight_decay"]
        return (1.0 - rate * step).clamp(min=0.0) if rate else None

    def _skip(self, loss: Tensor, norm_sq: Tensor) -> Tensor:
        """Whether the step must not be taken, counted; a 0-dim bool tensor."""
        skip = torch.logical_not(step_size.usable(loss, norm_sq))
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            skip = skip | (found_inf.to(skip.device).reshape(()) > 0)
        for group in self.param_groups:
            if isinstance(group["lr"], Tensor):
                skip = skip | torch.isnan(group["lr"].to(skip.device).reshape(()))
        self.param_groups[0]["skipped"].add_(skip)
        return skip

    def _cap(self, raw: Tensor, skip: Tensor, caps: list[Any]) -> list[Tensor]:
        """The step size of every group, left in ``effective_lr`` too."""
        raw = torch.where(skip, torch.zeros_like(raw), raw)
        steps = []
        for group, cap in zip(self.param_groups, caps, strict=True):
            limit = cap.to(raw) if isinstance(cap, Tensor) else cap
            step = torch.clamp(raw, max=limit).clamp(min=0.0)
            # A NaN cap on a device shows up only here; the step is skipped, and is 0.
            step = torch.where(skip, torch.zeros_like(step), step)
            _tree.assign([group["effective_lr"]], [step])
            steps.append(step)
        return steps

    def _caps(self) -> list[Any]:
        """Every group's cap; a NaN one is refused where it can be read without waiting."""
        caps = []
        for index, group in enumerate(self.param_groups):
            cap = group["lr"]
            on_host = not isinstance(cap, Tensor) or cap.device.type == "cpu"
            if on_host and not torch.compiler.is_compiling() and math.isnan(float(cap)):
                raise ValueError(
                    f"param_groups[{index}]['lr'] is NaN, as a scheduler makes of an infinite cap; "
                    "give a finite max_lr to a scheduler"
                )
            caps.append(cap)
        return caps

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may carry a cap of its own (``max_lr`` or ``lr``) and weight_decay."""
        group = dict(param_group)
        if "max_lr" in group:
            if "lr" in group:
                raise ValueError("a group's cap came twice, as max_lr and as lr: give one of them")
            group["lr"] = group.pop("max_lr")
        self._check({**self.defaults, **group})
        for key in SHARED:
            expected = (self.param_groups[0] if self.param_groups else self.defaults)[key]
            if group.get(key, expected) != expected:
                raise ValueError(
                    f"{key} belongs to the one step size all groups share: expected {expected} "
                    f"in every group, got {group[key]}"
                )
        super().add_param_group(group)
        self._settle_scalars(*self._home())

    def _check(self, options: dict[str, Any]) -> None:
        cap = options["lr"]
        if not float(cap) > 0.0:
            raise ValueError(f"max_lr must be positive (or inf for no cap), got {float(cap)}")
        if not math.isfinite(options["f_star"]):
            raise ValueError(f"f_star must be a finite number, got {options['f_star']}")
        if not (options["scale"] > 0.0 and math.isfinite(options["scale"])):
            raise ValueError(f"scale must be positive and finite, got {options['scale']}")
        if not 0.0 <= options["momentum"] < 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {options['momentum']}")
        if not (options["weight_decay"] >= 0.0 and math.isfinite(options["weight_decay"])):
            raise ValueError(
                f"weight_decay must be non-negative and finite, got {options['weight_decay']}"
            )

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
            for key in AVERAGES:
                self._settle(first, key, device, dtype)
        for group in self.param_groups:
            self._settle(group, "effective_lr", device, dtype)
            if self._averaging():
                self._settle(group, "average_norm_sq", device, dtype)
                group.setdefault("active", 0)

    @staticmethod
    def _settle(group: dict[str, Any], key: str, device: torch.device, dtype: torch.dtype) -> None:
        value = group.get(key)
        if not isinstance(value, Tensor):
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
        self._active = {}
        for group in self.param_groups:
            for key in ("lr", "weight_decay", *SHARED):
                group.setdefault(key, self.defaults[key])
        if self.param_groups:
            self._settle_scalars(*self._home())

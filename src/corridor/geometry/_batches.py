"""Goes through the batches of a data set, the same way every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from corridor.geometry._guard import Untouched

SAME = 1e-5  # relative; what the order of floating-point sums on a GPU may change


def widened(like: Tensor) -> Tensor:
    """Zeros of the same shape, in double precision where the device has it."""
    if like.device.type == "mps":
        return torch.zeros_like(like, requires_grad=False)
    dtype = torch.complex128 if like.is_complex() else torch.float64
    return torch.zeros_like(like, dtype=dtype, requires_grad=False)


class Batches:
    """Closures of all batches, with random numbers that depend on the batch alone.

    Args:
        guard: entered, over the model's parameters.
        model: what is evaluated.
        loss_fn: ``loss_fn(model(inputs), targets)``; None where batch_loss is given.
        batches: gone through once for every `go`.
        batch_loss: ``batch_loss(model, batch)``.
        batch_size: weight of a batch.
    """

    def __init__(
        self,
        guard: Untouched,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor] | None,
        batches: Iterable[Any],
        batch_loss: Callable[[nn.Module, Any], Tensor] | None,
        batch_size: Callable[[Any], float] | None,
    ) -> None:
        if (loss_fn is None) == (batch_loss is None):
            raise ValueError("expected either loss_fn or batch_loss, got both or none of them")
        if iter(batches) is batches:
            raise ValueError(
                "batches are gone through twice, and an iterator only once; "
                "give a list or a DataLoader"
            )
        self.guard, self.model, self.batches = guard, model, batches
        self.loss_fn, self.batch_loss, self.size_of = loss_fn, batch_loss, batch_size or size
        self.seed = int(torch.randint(1 << 40, ()))
        self.totals: list[float] = []

    def go(self, add: Callable[[Untouched, Callable[[], Tensor], float], Tensor]) -> None:
        """Hand the closure and weight of every batch to `add`, which returns its loss."""
        self.guard.rewind()
        torch.manual_seed(self.seed)  # a shuffling loader then shuffles alike
        total, weight = 0.0, 0.0
        device = self.guard.params[0].device
        for index, batch in enumerate(self.batches):
            n = float(self.size_of(batch))
            if not 0.0 < n < math.inf:
                raise ValueError(f"batch {index} has size {n}; expected a positive number")
            total += n * float(add(self.guard, self._closure(index, moved(batch, device)), n))
            weight += n
        if weight == 0.0:
            raise ValueError("there is no batch; expected at least one")
        self.totals.append(total / weight)

    def _closure(self, index: int, batch: Any) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            torch.manual_seed(self.seed + index + 1)
            if self.batch_loss is not None:
                return self.batch_loss(self.model, batch)
            assert self.loss_fn is not None
            try:
                inputs, targets = batch
            except (TypeError, ValueError):
                raise ValueError(
                    f"expected batches (inputs, targets), got {type(batch).__name__}; "
                    "give batch_loss for other batches"
                ) from None
            return self.loss_fn(self.model(inputs), targets)

        return closure

    def check_same(self) -> None:
        """Raise a ValueError if the last two passes saw different losses."""
        first, second = self.totals[-2:]
        if abs(first - second) > SAME * max(abs(first), abs(second)):
            raise ValueError(
                f"the passes over the batches saw different losses, {first:.8g} and {second:.8g}; "
                "give batches that stay the same: no random augmentation, no generator of their own"
            )

    def batch_norm(self) -> str:
        """Which statistics batch normalisation used: "batch", "running", "mixed" or "none"."""
        kinds = set()
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                own = module.training or module.running_mean is None
                kinds.add("batch" if own else "running")
        return "none" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"


def size(batch: Any) -> float:
    """Length of the first tensor in a batch."""
    first = _first_tensor(batch)
    if first is None or first.dim() == 0:
        raise ValueError(
            f"cannot tell the size of a batch of type {type(batch).__name__}; give batch_size"
        )
    return float(len(first))


def _first_tensor(batch: Any) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch
    parts = batch.values() if isinstance(batch, Mapping) else batch
    if isinstance(parts, str) or not isinstance(parts, Iterable):
        return None
    return next((t for part in parts if (t := _first_tensor(part)) is not None), None)


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device; lists, tuples and mappings are gone through."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if type(batch) in (list, tuple):
        return type(batch)(moved(value, device) for value in batch)
    return batch

"""Read the batches of a data set several times, each time with the same random numbers."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from corridor import _torch, _tree
from corridor._types import LossClosure
from corridor.geometry._guard import Untouched
from corridor.geometry._inputs import check_function, one_line

SAME = 1e-5  # relative; on a GPU the order of a sum, and so its rounding, may differ


def wide_zeros(like: Tensor) -> Tensor:
    """Return zeros of the shape of a tensor, in double precision if the device has it."""
    dtype = torch.promote_types(like.dtype, _tree.widest(like))
    return torch.zeros_like(like, dtype=dtype, requires_grad=False)


class Batches:
    """Make closures of all batches, with random numbers that depend only on the batch's index."""

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
            got = "neither" if loss_fn is None else "both"
            raise ValueError(f"loss_fn or batch_loss must be given, got {got}; give one of them")
        if batch_loss is None:
            check_function("loss_fn", loss_fn, "torch.nn.functional.mse_loss")
            batch_loss = partial(_loss_of_pair, loss_fn)
        check_function("batch_loss", batch_loss, "lambda model, batch: loss of the batch")
        if isinstance(batches, Iterator):
            raise ValueError(
                "batches must be readable twice, got an iterator; give a list or a DataLoader"
            )
        self.guard, self.model, self.batches = guard, model, batches
        self.batch_loss, self.size = batch_loss, batch_size or length
        self.seed = int(torch.randint(1 << 40, (), device="cpu"))
        self.totals: list[float] = []

    def go(self, add: Callable[[LossClosure, float], Tensor]) -> None:
        """Call `add` with the closure and the weight of every batch. It returns the loss."""
        self.guard.rewind()
        torch.manual_seed(self.seed)  # a loader that shuffles then repeats its order
        total, weight = 0.0, 0.0
        device = self.guard.params[0].device
        for index, batch in enumerate(self.batches):
            n = float(self.size(batch))
            if not 0.0 < n < math.inf:
                raise ValueError(
                    f"batch_size must be positive and finite, got {n} for batch {index}; "
                    "return the number of its examples"
                )
            try:
                total += n * float(add(self._closure(index, moved(batch, device)), n))
            except RuntimeError as error:
                if self.guard.closure_failed:
                    raise
                raise ValueError(
                    f"a batch's loss cannot be differentiated twice ({one_line(error)}); "
                    "call corridor.measure, which has central differences"
                ) from error
            weight += n
        if weight == 0.0:
            raise ValueError("batches must hold at least one batch, got none; give more data")
        self.totals.append(total / weight)

    def _closure(self, index: int, batch: Any) -> LossClosure:
        def closure() -> Tensor:
            torch.manual_seed(self.seed + index + 1)  # equal dropout masks in all passes
            return self.batch_loss(self.model, batch)

        return closure

    def check_same(self) -> None:
        """Raise ValueError if the last two passes computed different losses."""
        first, second = self.totals[-2:]
        if abs(first - second) > SAME * max(abs(first), abs(second)):
            raise ValueError(
                f"batches must be equal in every pass, got losses {first:.8g} and {second:.8g}; "
                "remove random augmentation and generators with their own state"
            )

    def batch_norm(self) -> str:
        """Return the statistics of batch normalization: "batch", "running", "mixed" or "none"."""
        kinds = {
            "batch" if module.training or module.running_mean is None else "running"
            for module in self.model.modules()
            if isinstance(module, _torch.BatchNorm)
        }
        return "none" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"


def _loss_of_pair(loss_fn: Any, model: nn.Module, batch: Any) -> Tensor:
    # Two rows of a tensor or two keys are not a pair.
    if isinstance(batch, Tensor | Mapping) or not hasattr(batch, "__len__") or len(batch) != 2:
        raise ValueError(
            f"batches must hold pairs (inputs, targets), got {type(batch).__name__}; "
            "give batch_loss=lambda model, batch: ... and loss_fn=None for other batches"
        )
    inputs, targets = batch
    return loss_fn(model(inputs), targets)


def length(batch: Any) -> float:
    """Return the length of the first tensor in a batch."""
    first = _first_tensor(batch)
    if first is None or first.dim() == 0:
        raise ValueError(
            f"batches must hold tensors with a length, got {type(batch).__name__}; give batch_size"
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
    """Return a batch with all tensors in its lists, tuples and dicts moved to a device."""
    if hasattr(batch, "to"):  # so do packed sequences, graphs and encodings of text
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if hasattr(batch, "_make"):  # a named tuple
        return batch._make(moved(value, device) for value in batch)
    if type(batch) in (list, tuple):
        return type(batch)(moved(value, device) for value in batch)
    return batch

"""Means and sums over the ranks of a group: the core's one file that names torch.distributed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_ranks(value: Tensor) -> Tensor:
    """Mean of a 0-dim tensor over the ranks of the default process group.

    Without an initialised group, or alone in it, the value is returned as it is. Data-parallel
    training averages gradients over ranks; a step size that is to match them needs the loss
    averaged alike, else every rank takes a step of its own and the parameters drift apart.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def sum_over_ranks(tensors: Sequence[Tensor]) -> int:
    """Sum tensors in place over the ranks of the default process group, and return their number.

    One reduction serves all tensors of a dtype. Without an initialised group, or alone in it,
    nothing happens.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return 1
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        alike = [t for t in tensors if t.dtype == dtype]
        joined = torch.cat([t.reshape(-1) for t in alike])
        dist.all_reduce(joined)
        parts = joined.split([t.numel() for t in alike])
        for tensor, part in zip(alike, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
    return dist.get_world_size()


def is_sharded(tensor: Tensor) -> bool:
    """Whether the tensor is a DTensor, of which each rank may hold a part only."""
    module = sys.modules.get("torch.distributed.tensor")  # no DTensor exists before its import
    return module is not None and isinstance(tensor, module.DTensor)

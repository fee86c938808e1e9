"""Sums and means over ranks: the core's one file that names torch.distributed.

A step size needs the loss averaged over all ranks and the sums over sharded tensors completed. Both
travel in one all-reduce of a few numbers: a shard that several ranks hold alike is counted by each
of them in part, so that the sum over the world counts it once, whatever the placements.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether the tensor is a DTensor, of which each rank may hold a part only."""
    module = sys.modules.get("torch.distributed.tensor")  # no DTensor exists before its import
    return module is not None and isinstance(tensor, module.DTensor)


def world_size() -> int:
    """Number of ranks in the default process group, 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a DTensor, sharing its memory; any other tensor as it is."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # pyright: ignore


def placed_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A DTensor with the placements of another, so that their local parts belong together."""
    if tensor.placements == like.placements:  # pyright: ignore[reportAttributeAccessIssue]
        return tensor
    return tensor.redistribute(like.device_mesh, like.placements)  # pyright: ignore


def whole(tensor: Tensor) -> Tensor:
    """The full value of a DTensor on every rank; any other tensor as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # pyright: ignore


def share(tensor: Tensor) -> float:
    """The part of a DTensor's local sums that this rank adds to a sum over the world.

    Ranks outside of the tensor's mesh are taken to hold copies of it, as under data parallelism
    around tensor parallelism; under pipeline parallelism they hold other tensors, and it is wrong.
    """
    mesh = tensor.device_mesh  # pyright: ignore[reportAttributeAccessIssue]
    # _StridedShard.is_shard() is False: what is not replicated is sharded.
    placements = tensor.placements  # pyright: ignore[reportAttributeAccessIssue]
    shards = prod(mesh.size(i) for i, p in enumerate(placements) if not p.is_replicate())
    return shards / world_size()


def over_ranks(values: Tensor, sums: Tensor | None, average: bool) -> tuple[Tensor, Tensor | None]:
    """Means of values and totals of the shards' sums over the ranks of the default group.

    Data-parallel training averages gradients over ranks; a step size that is to match them needs
    the loss averaged alike, else every rank takes a step of its own and the parameters drift apart.

    Args:
        values: [m], this rank's loss and what else is averaged.
        sums: sums over this rank's shards, each weighted by its `share`; None where nothing is
            sharded.
        average: False where the values are this rank's own business.

    Returns:
        The values, and the sums over all ranks. Without an initialised group, alone in it, or with
        nothing to share, there is no communication.
    """
    world = world_size()
    if world > 1 and (average or sums is not None):
        packed = values.clone() if sums is None else torch.cat([values, sums.flatten()])
        dist.all_reduce(packed)
        values = packed[: len(values)] / world if average else values
        sums = None if sums is None else packed[len(values) :].view_as(sums)
    return values, sums


def sum_over_ranks(tensors: Sequence[Tensor]) -> int:
    """Sum tensors in place over the ranks of the default process group, and return their number.

    One reduction serves all tensors of a dtype. Without an initialised group, or alone in it,
    nothing happens.
    """
    if world_size() == 1:
        return 1
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        alike = [t for t in tensors if t.dtype == dtype]
        joined = torch.cat([t.reshape(-1) for t in alike])
        dist.all_reduce(joined)
        parts = joined.split([t.numel() for t in alike])
        for tensor, part in zip(alike, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
    return world_size()

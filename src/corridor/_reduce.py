"""Compute sums and means over ranks. In the core, only this file names torch.distributed.

A step size needs the mean of the loss over all ranks, and complete sums over sharded tensors.
One all-reduce of a few numbers carries both. Several ranks may hold equal copies of a shard.
Each of them counts a part of it, so that the sum over the world counts every shard once.
"""

import sys
from collections.abc import Sequence
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Return True for a DTensor, of which each rank may hold only a part."""
    module = sys.modules.get("torch.distributed.tensor")  # no DTensor exists before its import
    return module is not None and isinstance(tensor, module.DTensor)


def world_size() -> int:
    """Return the number of ranks in the default process group, or 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a DTensor, without a copy, and any other tensor unchanged."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # pyright: ignore


def placed_as(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a DTensor with the placements of another, so that their local parts match."""
    if tensor.placements == like.placements:  # pyright: ignore[reportAttributeAccessIssue]
        return tensor
    return tensor.redistribute(like.device_mesh, like.placements)  # pyright: ignore


def whole(tensor: Tensor) -> Tensor:
    """Return the full value of a DTensor on every rank, and any other tensor unchanged."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # pyright: ignore


def share(tensor: Tensor) -> float:
    """Return the factor of a DTensor's local sums in a sum over the world.

    Ranks outside the tensor's mesh are taken to hold copies of it. That is right for data
    parallelism around tensor parallelism, and wrong for pipeline parallelism.
    """
    mesh = tensor.device_mesh  # pyright: ignore[reportAttributeAccessIssue]
    # is_shard() is False for _StridedShard, so ask for the opposite of a replica.
    placements = tensor.placements  # pyright: ignore[reportAttributeAccessIssue]
    shards = prod(mesh.size(i) for i, p in enumerate(placements) if not p.is_replicate())
    return shards / world_size()


def over_ranks(values: Tensor, sums: Tensor | None, average: bool) -> tuple[Tensor, Tensor | None]:
    """Compute the means of values, and the sums over all shards, over the default group.

    Data-parallel training averages gradients over ranks, so the step size must use the mean loss:
    otherwise the ranks would take different steps. The sums are weighted by `share`, and None if no
    tensor is sharded. Without `average` the values stay this rank's. With one rank, or
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
    """Sum tensors in place over the ranks of the default group, and return the number of ranks."""
    if world_size() == 1:
        return 1
    for dtype in dict.fromkeys(t.dtype for t in tensors):  # one all-reduce per dtype
        alike = [t for t in tensors if t.dtype == dtype]
        joined = torch.cat([t.reshape(-1) for t in alike])
        dist.all_reduce(joined)
        parts = joined.split([t.numel() for t in alike])
        for tensor, part in zip(alike, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
    return world_size()


def check_whole(params: Sequence[Tensor]) -> None:
    """Raise ValueError unless all parameters that are not sharded are equal on all ranks.

    FSDP1 and ZeroRedundancyOptimizer give each rank an ordinary tensor or a part of the list. Then
    no rank knows the norm of the whole gradient, and each takes another step size. All ranks
    must call. The function waits for the device.
    """
    if world_size() == 1:
        return
    device = params[0].device if params else torch.device("cpu")
    prints = torch.zeros(3, dtype=torch.float64, device=device)
    for index, p in enumerate(p for p in params if not is_sharded(p)):
        total = torch.nan_to_num(p.detach().abs().sum(dtype=torch.float64)).to(device)
        prints += torch.stack([torch.ones_like(total), p.numel() + 0 * total, (index + 1) * total])
    ends = torch.cat([prints, -prints])
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    largest, least = ends[:3], -ends[3:]
    if bool(((largest - least) > 1e-6 * largest.abs()).any()):
        raise ValueError(
            "params must be whole and equal on all ranks, got differences; use "
            "DistributedDataParallel or fully_shard (FSDP2), not FSDP1 or ZeroRedundancyOptimizer, "
            "or average_loss=False for ranks that train alone"
        )

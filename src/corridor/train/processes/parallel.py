"""One network over many processes: copies that share gradients (DDP), or shards (FSDP2)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from corridor import _reduce
from corridor.train.config import Config
from corridor.train.processes.batch_norm import average_statistics, synchronised
from corridor.train.processes.team import Team

# Parts with fewer numbers than this are gathered with the rest of the network.
SHARD_NUMBERS = 2**14


def spread(model: nn.Module, config: Config, team: Team, device: torch.device) -> nn.Module:
    """Lay a network out over the team as a config says.

    Args:
        model: On its device; it stays the holder of the parameters, which FSDP2 shards in place.
        config: Its ``parallel`` and ``batch_norm`` are used.
        team: The processes.
        device: Where this one computes.

    Returns:
        What is to be called in training: the network itself, or DDP's wrapper around it.
    """
    if team.world == 1:
        return model
    if config.batch_norm == "synchronised":
        synchronised(model)
    if config.parallel == "ddp":
        from torch.nn.parallel import DistributedDataParallel

        places = [device] if device.type == "cuda" else None
        # Buffers are averaged when they are used; DDP would send rank 0's before every step.
        with warnings.catch_warnings():  # the option's new name is unknown to older versions
            warnings.simplefilter("ignore")
            return DistributedDataParallel(model, device_ids=places, broadcast_buffers=False)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (team.world,))
    for part in _parts(model):
        if sum(p.numel() for p in part.parameters()) >= SHARD_NUMBERS:
            fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """What is gathered together: the root's children, and those of its lists."""
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from _parts(child)
        else:
            yield child


@contextmanager
def exchange(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Whether gradients of a backward pass inside are averaged over ranks; else they gather."""
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(model, DistributedDataParallel):
        before = model.require_backward_grad_sync
        model.require_backward_grad_sync = wanted
        try:
            yield
        finally:
            model.require_backward_grad_sync = before
    else:
        if hasattr(model, "set_requires_gradient_sync"):
            model.set_requires_gradient_sync(wanted)  # pyright: ignore[reportCallIssue]
        yield


def settle_buffers(model: nn.Module, team: Team) -> None:
    """Make running statistics the same on all ranks: the means of their own."""
    if team.world > 1:
        average_statistics(model)


def norm(tensors: list[Tensor]) -> Tensor:
    """The norm of whole or sharded tensors together, 0-dim."""
    return _reduce.whole(torch.nn.utils.get_total_norm(tensors))

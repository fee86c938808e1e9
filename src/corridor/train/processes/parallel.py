"""Distribute a network: copies that share gradients (DDP), or shards of parameters (FSDP2)."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from corridor import _reduce
from corridor.train.config import Config
from corridor.train.processes.batch_norm import average_statistics, synchronized
from corridor.train.processes.team import Team

# Modules with fewer parameters are gathered with the rest of the network.
SHARD_NUMBERS = 2**14


def spread(model: nn.Module, config: Config, team: Team, device: torch.device) -> nn.Module:
    """Distribute a network over the processes, and return the module to call in training.

    The network keeps the parameters; FSDP2 shards them in place.
    """
    if team.world == 1:
        return model
    if config.batch_norm == "synchronized":
        synchronized(model)
    if config.parallel == "ddp":
        from torch.nn.parallel import DistributedDataParallel

        devices = [device] if device.type == "cuda" else None
        # Buffers are averaged when they are used; DDP would send those of rank 0 before every step.
        with warnings.catch_warnings():  # torch is renaming the option
            warnings.simplefilter("ignore")
            return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (team.world,))
    # Modules first: what is sharded before the network is gathered separately from the rest.
    for part in _parts(model):
        if sum(p.numel() for p in part.parameters()) >= SHARD_NUMBERS:
            fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the children of the network, and the children of its lists."""
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from _parts(child)
        else:
            yield child


@contextmanager
def exchange(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Average the gradients over ranks in backward passes of the block, or only accumulate them."""
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
    """Make the running statistics of all ranks equal to their mean."""
    if team.world > 1:
        average_statistics(model)


def norm(tensors: list[Tensor]) -> Tensor:
    """Return the norm of all tensors together, whole or sharded, as a 0-dim tensor."""
    return _reduce.whole(torch.nn.utils.get_total_norm(tensors))

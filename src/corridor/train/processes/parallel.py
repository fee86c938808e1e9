"""Distribute a network: copies that share gradients (DDP), or shards of parameters (FSDP2)."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from corridor._reduce import sum_over_ranks
from corridor._torch import BatchNorm
from corridor.train.config import Config
from corridor.train.processes.team import Team

# Modules with fewer parameters are gathered with the rest of the network.
SHARD_NUMBERS = 2**14


def spread(model: nn.Module, config: Config, team: Team, device: torch.device) -> nn.Module:
    """Distribute a network over processes, in place, and return the module to call in training."""
    if team.world == 1:
        return model
    if config.batch_norm == "synchronized":
        for layer in model.modules():
            if isinstance(layer, BatchNorm):  # keeps its parameters, buffers and hooks
                layer.__class__ = BatchNormOverRanks
    if config.parallel == "ddp":
        devices = [device] if device.type == "cuda" else None
        # Buffers are averaged when they are used; DDP would send rank 0's before every step.
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


def exchange(model: nn.Module, wanted: bool) -> AbstractContextManager[Any]:
    """Average the gradients over ranks in backward passes of the block, or only accumulate them."""
    if isinstance(model, DistributedDataParallel) and not wanted:
        return model.no_sync()
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(wanted)  # pyright: ignore[reportCallIssue]
    return nullcontext()


@torch.no_grad()
def settle_buffers(model: nn.Module) -> None:
    """Replace the running statistics, linear in the batches', by their mean over all ranks."""
    layers = [m for m in model.modules() if isinstance(m, BatchNorm)]
    local = [m for m in layers if not isinstance(m, BatchNormOverRanks)]
    own = [b for m in local for b in (m.running_mean, m.running_var) if b is not None]
    ranks = sum_over_ranks(own)
    for buffer in own:
        buffer /= ranks


class _Sum(torch.autograd.Function):
    """Sum over ranks; the derivative is the sum over ranks, too."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        whole = mine.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return _Sum.apply(*grad_outputs)


# torch 2.13 compiles the derivative wrongly.
_over_ranks: Any = torch.compiler.disable(_Sum.apply)


class BatchNormOverRanks(BatchNorm):
    """Normalize batches over all ranks, on any device; unlike torch's, twice differentiable."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept two and more dimensions, as the layers that this class replaces do."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input, [b, c, ...], with each channel normalized."""
        if not self.training:
            return super().forward(input)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        x = x.movedim(1, -1)
        over = list(range(x.dim() - 1))
        # Sums around the running mean, which is equal on all ranks, lose fewer digits in squares.
        known = self.running_mean
        center = x.new_zeros(self.num_features) if known is None else known.detach().clone()
        shifted = x - center
        count = x.new_tensor([x.numel() // max(self.num_features, 1)])
        sums = torch.cat([shifted.sum(over), shifted.square().sum(over), count])
        total, squares, number = _over_ranks(sums).split([x.shape[-1], x.shape[-1], 1])
        mean = total / number
        variance = (squares / number - mean.square()).clamp(min=0.0)
        self._update(center + mean, variance * (number / (number - 1.0).clamp(min=1.0)))
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return (shifted * scale + shift).movedim(-1, 1).to(input.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics, as torch's layers do."""
        if self.running_mean is None or self.running_var is None:
            return
        factor = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if factor is None:
                factor = 1.0 / float(self.num_batches_tracked)
        assert factor is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(variance.to(self.running_var.dtype), factor)

"""Batch normalisation over the batch of all ranks, on any device and twice differentiable.

torch's own synchronised layer runs on GPUs only, and its backward pass cannot be differentiated
again, as Hg needs. Here mean and variance are plain arithmetic around one reduction a layer, which
knows its own derivative.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum over ranks; what a sum's derivative adds up over ranks is a sum again."""

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


class BatchNormOverRanks(_BatchNorm):
    """In training, statistics of the whole batch over the ranks of the default process group."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions from two on: the layer that this replaces has checked."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel of [b, c, ...]."""
        if not self.training:
            return super().forward(input)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        over = [i for i in range(x.dim()) if i != 1]
        # Sums are taken around the running mean, alike on all ranks, so that squares cancel little.
        known = self.running_mean
        centre = x.new_zeros(self.num_features) if known is None else known.detach().clone()
        shifted = x - _per_channel(centre, x)
        count = x.new_tensor([x.numel() // max(x.shape[1], 1)])
        sums = torch.cat([shifted.sum(over), shifted.square().sum(over), count])
        total, squares, number = _over_ranks(sums).split([x.shape[1], x.shape[1], 1])
        mean = total / number
        variance = (squares / number - mean.square()).clamp(min=0.0)
        self._remember(centre + mean, variance * (number / (number - 1.0).clamp(min=1.0)))
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return (shifted * _per_channel(scale, x) + _per_channel(shift, x)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as torch's layers do."""
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


def synchronised(model: nn.Module) -> nn.Module:
    """The same network, its batch norms being over all ranks; parameters stay the same tensors."""
    if isinstance(model, _BatchNorm) and not isinstance(model, BatchNormOverRanks):
        return _replaced(model)
    for name, child in model.named_children():
        setattr(model, name, synchronised(child))
    return model


def _replaced(layer: _BatchNorm) -> BatchNormOverRanks:
    new = BatchNormOverRanks(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    for name in ("weight", "bias"):
        new._parameters[name] = layer._parameters[name]
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        new._buffers[name] = layer._buffers[name]
    return new.train(layer.training)


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Replace each rank's running statistics by their mean over the ranks of the default group.

    They follow the batches linearly, so that it does not matter when, or how often, this is done.
    """
    layers: list[Any] = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    own = [
        buffer
        for layer in layers
        if not isinstance(layer, BatchNormOverRanks)
        for buffer in (layer.running_mean, layer.running_var)
        if buffer is not None
    ]
    if own:
        joined = torch.cat([buffer.flatten() for buffer in own])
        dist.all_reduce(joined)
        joined /= dist.get_world_size()
        for buffer, part in zip(own, joined.split([b.numel() for b in own]), strict=True):
            buffer.copy_(part.view_as(buffer))


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1 for _ in range(like.dim() - 2)))

"""One small training, laid out over processes in every way the tests compare."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from tests.relatives import RELATIVES
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

STEPS = 6
BATCH = 24  # divides by 1, 2, 3 and 4


class Layout(NamedTuple):
    """How many processes, how many of them see batches of their own, and what they share."""

    world: int
    replicas: int
    kind: str


LAYOUTS = {
    "one process": Layout(1, 1, "plain"),
    "DDP, 2": Layout(2, 2, "ddp"),
    "DDP, 4": Layout(4, 4, "ddp"),
    "FSDP2, 2": Layout(2, 2, "fsdp"),
    "FSDP2, 3": Layout(3, 3, "fsdp"),
    "FSDP2, 4": Layout(4, 4, "fsdp"),
    "HSDP, 2 x 2": Layout(4, 4, "hsdp"),
    "tensor parallel, 2": Layout(2, 1, "tp"),
    "DDP x tensor parallel, 2 x 2": Layout(4, 2, "ddp x tp"),
    "FSDP2 x tensor parallel, 2 x 2": Layout(4, 2, "fsdp x tp"),
}


class Record(NamedTuple):
    """What a run left behind; the collectives are those of its last step."""

    steps: list[list[float]]
    losses: list[float]
    weights: dict[str, Tensor]
    collectives: int


def network() -> nn.Sequential:
    """Sizes that two, three and four ranks shard unevenly, one bias in empty parts."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 14), nn.Tanh(), nn.Linear(14, 14), nn.Tanh(), nn.Linear(14, 2)
    )


def laid_out(layout: Layout) -> nn.Module:
    """The network as the layout shards it, on every rank."""
    model = network()
    if layout.kind == "plain":
        return model
    if layout.kind == "ddp":
        return DistributedDataParallel(model)
    if layout.kind == "fsdp":
        return _sharded(model, init_device_mesh("cpu", (layout.world,)))
    if layout.kind == "hsdp":
        return _sharded(model, init_device_mesh("cpu", (2, 2), mesh_dim_names=("copy", "shard")))
    mesh = init_device_mesh("cpu", (layout.world // 2, 2), mesh_dim_names=("dp", "tp"))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    model = parallelize_module(model, mesh["tp"], plan)
    return _sharded(model, mesh["dp"]) if layout.kind == "fsdp x tp" else model


def _sharded(model: nn.Sequential, mesh: Any) -> nn.Module:
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def batch(k: int, layout: Layout) -> tuple[Tensor, Tensor]:
    """This rank's part of the k-th global batch: inputs [b, 5], targets [b, 2]."""
    x = torch.randn(BATCH, 5, generator=torch.Generator().manual_seed(k))
    y = torch.sin(2.0 * x[:, :2]) + x[:, 2:4]
    index = dist.get_rank() * layout.replicas // layout.world if dist.is_initialized() else 0
    return x.chunk(layout.replicas)[index], y.chunk(layout.replicas)[index]


def steps(model: nn.Module, opt: Any, layout: Layout, first: int, last: int) -> Record:
    """Train from one step to another and record it."""
    sizes, losses, collectives = [], [], 0
    for k in range(first, last):
        x, y = batch(k, layout)
        opt.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        if layout.kind == "ddp x tp":
            _average_over_copies(model)
        with CommDebugMode() if k == last - 1 else nullcontext() as traffic:
            opt.step(loss=loss)
        if traffic is not None:
            collectives = traffic.get_total_counts()
        sizes.append([float(group["effective_lr"]) for group in opt.param_groups])
        losses.append(loss.item())
    return Record(sizes, losses, weights(model), collectives)


def _average_over_copies(model: nn.Module) -> None:
    """What data parallelism around tensor parallelism does to the gradients of this mesh."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    for p in model.parameters():
        local = p.grad.to_local() if isinstance(p.grad, DTensor) else p.grad
        dist.all_reduce(local, group=mesh.get_group("dp"))
        local /= 2


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Whole parameters by their name in the network."""
    model = model.module if isinstance(model, DistributedDataParallel) else model
    return {
        name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
        for name, p in model.named_parameters()
    }


def train(
    layout: Layout, options: dict[str, Any], names: Sequence[str] = tuple(RELATIVES)
) -> dict[str, Record]:
    """A run of relatives in a layout; a job for ranks."""
    records = {}
    for name in names:
        make = RELATIVES[name]
        model = laid_out(layout)
        opt = make(_groups(model), **options)
        records[name] = steps(model, opt, layout, 0, STEPS)
    return records


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weights, and biases with a cap of their own."""
    named = list(model.named_parameters())
    return [
        {"params": [p for name, p in named if "weight" in name]},
        {"params": [p for name, p in named if "bias" in name], "lr": 0.02},
    ]

"""Jobs for ranks that train whole runs; networks without dropout, which ranks draw apart."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from corridor import data
from corridor.train.config import Config
from corridor.train.folder import checkpoint
from corridor.train.folder.checkpoint import Position
from corridor.train.folder.record import read_run
from corridor.train.loop import train
from corridor.train.processes import ElsewhereError
from corridor.train.processes.team import Team
from corridor.train.trainer import Trainer

HERE = "tests.distributed.trained"


def smooth(num_classes: int) -> nn.Module:
    """No kinks: central differences, which sharded parameters need, are then good."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 300), nn.Tanh(), nn.Linear(300, num_classes, bias=False)
    )


def few(num_classes: int) -> nn.Module:
    """So few parameters that ARPACK's path is short."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))


def normed(num_classes: int, in_channels: int) -> nn.Module:
    """Batch norms, over pixels and over features."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 48),
        nn.BatchNorm1d(48, momentum=None),
        nn.Tanh(),
        nn.Linear(48, num_classes),
    )


def run(options: dict[str, Any], out: str, resume: bool = False) -> None:
    """A run, on every rank."""
    train(Config(**options), out, resume=resume, progress=False)


def run_and_tell(options: Sequence[dict[str, Any]], out: str) -> tuple[str, str]:
    """A run with options of each rank's own; the error that ended it, by class and text."""
    mine = options[dist.get_rank() % len(options)]
    try:
        run(mine, out)
    except (ValueError, OSError, ElsewhereError) as error:
        return type(error).__name__, str(error)
    return "", ""


def in_a_group_for_gpus(options: dict[str, Any], store: str, out: str) -> tuple[str, str]:
    """A run in a group that has no backend for the CPU, as init_process_group("nccl") makes it."""
    rank, world = dist.get_rank(), dist.get_world_size()
    dist.destroy_process_group()
    common = dist.FileStore(store, world)
    dist.init_process_group("cuda:gloo", store=common, rank=rank, world_size=world)
    common.set(f"here/{rank}", "")  # a rank that leaves while others still join would break it
    common.wait([f"here/{other}" for other in range(world)])
    return run_and_tell([options], out)


def with_other_data(options: dict[str, Any], out: str, fault: str) -> tuple[str, str]:
    """A run whose rank 1 finds other data than rank 0, or none; the error that ended it."""
    load = data.load

    def found(*args: Any, **kwargs: Any) -> data.Data:
        if dist.get_rank() != 1:
            return load(*args, **kwargs)
        if fault == "missing":
            raise FileNotFoundError("no digits here")
        return load(*args, **{**kwargs, "limit": 700 if fault == "fewer" else None})

    data.load = found
    try:
        return run_and_tell([options], out)
    finally:
        data.load = load


def saved_then_changed(out: str) -> bool:
    """Hands ones over to be saved, and doubles them before that can be done."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    sharded = distribute_tensor(torch.ones(101), mesh, [Shard(0)])
    states = {"whole": torch.ones(50_000), "sharded": sharded}
    saver = checkpoint.Saver(Path(out), Team(dist.get_rank(), 2, timeout=60.0), keep=1)
    saver.save(Position(step=1), states)
    pending = not checkpoint.paths(Path(out))
    for tensor in states.values():
        tensor.mul_(2.0)
    saver.wait()
    return pending


def alone_with_a_checkpoint(out: str, timeout: float) -> str:
    """What rank 0 is told when rank 1 does not come to what is said about a checkpoint."""
    rank, text = dist.get_rank(), ""
    saver = checkpoint.Saver(Path(out), Team(rank, 2, timeout), keep=1)
    if rank == 0:
        try:
            dist.all_reduce(torch.ones(1), group=saver.group)
        except RuntimeError as error:
            text = str(error)
    dist.barrier()
    return text


def run_on_a_full_disk(options: dict[str, Any], out: str) -> tuple[str, str]:
    """A run that may write small files only; the error that ended it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        return run_and_tell([options], out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def statistics(options: dict[str, Any]) -> dict[str, Tensor]:
    """Buffers after a few steps and an evaluation on each rank."""
    torch.manual_seed(0)
    team = Team(dist.get_rank(), dist.get_world_size())
    trainer = Trainer(Config(**options), torch.device("cpu"), team)
    for images, labels in trainer.loader.train(0):
        trainer.step(images, labels, trainer.config.batch_size)
    trainer.evaluate()
    return {k: v.clone() for k, v in trainer.model.named_buffers()}


def numbers(out: Path) -> list[dict[str, Any]]:
    """All lines of a run but for the times."""
    record = read_run(out)
    lines = [*record.steps, *record.evaluations]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def largest_difference(one: Path, other: Path) -> tuple[float, str]:
    """The largest relative difference between two runs' numbers, and where it is."""
    worst = (0.0, "")
    for a, b in zip(numbers(one), numbers(other), strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"sharpness_residual"}:  # what Lanczos' rounding left over
            right = a[key]
            error = abs(b[key] - right) / abs(right) if right else abs(b[key])
            worst = max(worst, (error, f"{key} of step {a['step']}"))
    return worst


def final(out: Path) -> dict[str, Tensor]:
    """The weights of a run's last checkpoint."""
    return checkpoint.read(checkpoint.paths(out)[-1]).states["model"]

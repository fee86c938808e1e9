"""Measure the geometry of the loss at the checkpoints of a run, over many training images."""

import itertools
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from corridor.geometry import measure_dataset, sharpness
from corridor.train.folder import checkpoint
from corridor.train.folder.files import atomic, dumps
from corridor.train.folder.record import require_config
from corridor.train.optimizers import next_step
from corridor.train.processes import generators
from corridor.train.trainer import Trainer

NAME = "geometry.jsonl"


def measure_checkpoints(run: str | Path, *, batches: int = 10, device: str = "cpu") -> Path:
    """Write the geometry of a run's first training batches, in training mode, at checkpoints."""
    run = Path(run)
    config = require_config(run)
    if batches < 1:
        raise ValueError(f"batches must be at least 1, got {batches}")
    found = checkpoint.paths(run)
    if not found:
        raise checkpoint.none_in(run)
    lines: list[dict[str, Any]] = []
    with generators.kept():
        generators.seed(config.seed)  # buffers outside the state dict are drawn as in the run
        trainer = Trainer(config, torch.device(device))
        parts = list(itertools.islice(trainer.loader.train(0), batches))
        while not lines and found:
            lines = [line for path in found if (line := _measured(trainer, path, parts))]
            found = checkpoint.paths(run)  # a run that trains has replaced those of before
    with atomic(run / NAME) as file:
        file.writelines(f"{dumps(line)}\n".encode() for line in lines)
    return run / NAME


def _measured(trainer: Trainer, path: Path, parts: list[Any]) -> dict[str, Any] | None:
    """Return the line of one checkpoint; None if the run has removed it since."""
    try:
        saved = checkpoint.read(path)
    except ValueError:
        if path.exists():
            raise
        return None
    generators.seed(trainer.config.seed)  # equal dropout at every checkpoint
    trainer.load_state_dict(saved.states)
    group = trainer.optimizer.param_groups[0]
    whole = measure_dataset(
        trainer.model,
        cross_entropy,
        parts,
        f_star=trainer.config.f_star,
        step=next_step(trainer.optimizer),
    )
    images, labels = parts[0]
    top = sharpness(lambda: cross_entropy(trainer.model(images), labels), trainer.parameters)
    return {
        "step": saved.position.step,
        "epoch": saved.position.epoch,
        "effective_lr": float(group.get("effective_lr", group["lr"])),
        **whole.as_dict(),
        "sharpness": top.value,
        "sharpness_residual": top.residual,
    }

"""The landscape at the checkpoints of a run, measured afterwards over many training images."""

import itertools
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from corridor.geometry import measure_dataset, sharpness
from corridor.train.folder import checkpoint
from corridor.train.folder.files import atomic, dumps
from corridor.train.folder.record import read_config
from corridor.train.probing import next_step
from corridor.train.trainer import Trainer

NAME = "geometry.jsonl"


def measure_checkpoints(run: str | Path, *, batches: int = 10, device: str = "cpu") -> Path:
    """Measure the mean loss of a run's first training batches at each of its checkpoints.

    The network is in training mode, with dropout and each batch's own statistics, as the run's
    loss was. ``sharpness`` is that of the first batch.

    Args:
        run: the run folder.
        batches: how many batches of the run's first epoch; their order is the run's.
        device: where to compute.

    Returns:
        The file written, ``geometry.jsonl`` in the run folder: a line a checkpoint.

    Raises:
        FileNotFoundError: there is no run, or no checkpoint in it.
        ValueError: batches is below 1, or a checkpoint is damaged.
    """
    run = Path(run)
    config = read_config(run)
    if config is None:
        raise FileNotFoundError(f"no run in {run}: it has no config.json")
    if batches < 1:
        raise ValueError(f"batches must be at least 1, got {batches}")
    found = checkpoint.paths(run)
    if not found:
        raise FileNotFoundError(f"no checkpoint in {run / checkpoint.FOLDER}; train it again")
    trainer = Trainer(config, torch.device(device))
    parts = list(itertools.islice(trainer.loader.train(0), batches))
    with torch.random.fork_rng(devices=[]):
        lines = [_at(trainer, path, parts) for path in found]
    with atomic(run / NAME) as file:
        file.writelines(f"{dumps(line)}\n".encode() for line in lines)
    return run / NAME


def _at(trainer: Trainer, path: Path, parts: list[Any]) -> dict[str, Any]:
    saved = checkpoint.read(path)
    torch.manual_seed(trainer.config.seed)  # the same dropout at every visit
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

"""Save, load and export the checkpoints of a run; each is a folder, complete or absent."""

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from corridor.data.rng import derive
from corridor.train.folder import storage
from corridor.train.folder.files import save_tensors
from corridor.train.folder.record import require_config
from corridor.train.processes import generators
from corridor.train.processes.team import Team

FOLDER = "checkpoints"


@dataclass
class Position:
    """Hold the progress of a run; `epoch` and `batch` (from 0) belong to the next batch."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    images: int = 0
    seconds: float = 0.0
    skips_in_row: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Hold a checkpoint's content; `random` has the generators' states by ``random/RANK/NAME``."""

    position: Position
    states: dict[str, Any]
    random: dict[str, Tensor]


class Saver:
    """Write the checkpoints of a run, several processes in the background; all ranks call it."""

    def __init__(self, out: Path, team: Team, keep: int) -> None:
        self.out, self.team, self.keep = out, team, keep
        self.pending: tuple[Path, Callable[[], Any]] | None = None
        self.group: Any = None
        if team.world > 1:  # its messages must not mix with the training's
            patience = timedelta(seconds=team.timeout)
            self.group = dist.new_group(backend="gloo", timeout=patience)

    def save(self, position: Position, states: dict[str, Any]) -> None:
        """Write a checkpoint and remove old ones; raise OSError if any write fails."""
        self.wait()
        self.team.doing = f"the checkpoint of step {position.step}"
        path = self.out / FOLDER / f"step-{position.step:09d}"
        self.team.of_first(lambda: _make_room(path.parent))
        # Ranks draw different dropout masks, so each stores its own generators.
        rank = self.team.rank
        tensors = {f"random/{rank}/{name}": state for name, state in generators.states().items()}

        def extract(name: str, value: Any) -> Any:
            if isinstance(value, Tensor):
                tensors[name], value = value, None
            return storage.loadable(name, value)

        content = {"position": asdict(position), "states": states}
        plain = self.team.together(lambda: storage.replaced(content, extract))
        writer = storage.Writer(path, plain)
        if self.group is not None:
            future: Any = async_save(tensors, storage_writer=writer, process_group=self.group)
            self.pending = path, future.result
        else:
            self.pending = path, partial(save, tensors, storage_writer=writer, no_dist=True)
            self.wait()

    def wait(self) -> None:
        """Wait until the last checkpoint is written; raise OSError if it cannot be written."""
        if self.pending is None:
            return
        (path, end), self.pending = self.pending, None
        self.team.doing = f"the end of {path.name}"

        def complete() -> None:
            with storage.written(path):
                end()
                if self.team.first:
                    _prune(self.out, path, self.keep)

        self.team.together(complete)


def _make_room(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for left in folder.glob(".*.tmp"):  # of a process killed while writing
        shutil.rmtree(left, ignore_errors=True)


def _prune(out: Path, path: Path, keep: int) -> None:
    """Keep the newest checkpoints up to `path`; later ones are damaged and were passed over."""
    found = paths(out)[::-1]
    ahead = found.index(path)
    for old in found[:ahead] + found[ahead + keep :]:
        # For other processes, a checkpoint disappears at once and is never half removed.
        os.replace(old, storage.temporary(old))
        shutil.rmtree(storage.temporary(old))


def paths(out: Path) -> list[Path]:
    """Return the checkpoints of a run, the oldest first; raise ValueError if all are of 0.1.0."""
    found = sorted((out / FOLDER).glob("step-*"))
    if found and all(path.suffix == ".pt" for path in found):
        raise ValueError(
            f"checkpoints must be of corridor 0.2.0, got files of 0.1.0 in {out / FOLDER}; "
            "finish this run with 0.1.0, or give a new folder"
        )
    return [path for path in found if path.is_dir()]


def load(
    out: Path, team: Team | None = None, like: Mapping[str, Any] | None = None
) -> Checkpoint | None:
    """Return the newest checkpoint that is not damaged; None if the run has no checkpoint.

    A tensor gets the device and shards of the tensor in `like` with its name or its parent's name,
    such as ``states/model/0.weight``. Other tensors are whole and on the CPU.
    """
    team = team or Team()
    path = team.of_first(lambda: _newest(out))
    if path is None:
        return None
    return team.together(lambda: _content(path, like or {}, together=team.world > 1))


def _newest(out: Path) -> Path | None:
    found = paths(out)
    for path in reversed(found):
        try:
            storage.verify(path)
            return path
        except ValueError as error:
            if not path.exists():  # the run that trains has removed it since, and has a newer one
                return _newest(out)
            warnings.warn(f"{error}; taking the one before", stacklevel=3)
    if found:
        raise ValueError(f"all checkpoints in {out / FOLDER} are damaged; give a new folder")
    return None


def read(path: Path) -> Checkpoint:
    """Return one checkpoint with whole tensors on the CPU; raise ValueError if it is damaged."""
    storage.verify(path)
    return _content(path, {}, together=False)


def _content(path: Path, like: Mapping[str, Any], *, together: bool) -> Checkpoint:
    content, tensors = storage.read(path, like, together=together)
    random = {name: value for name, value in tensors.items() if name.startswith("random/")}
    try:
        return Checkpoint(Position(**content["position"]), content["states"], random)
    except (KeyError, TypeError) as error:
        raise storage.damaged(path, error) from error


def export(run: Path, target: Path) -> Path:
    """Write model, optimizer, step, epoch and config of the newest checkpoint to one torch file."""
    config = require_config(run)
    saved = load(run)
    if saved is None:
        raise none_in(run)
    content = {name: saved.states[name] for name in ("model", "optimizer")}
    content |= {"step": saved.position.step, "epoch": saved.position.epoch}
    save_tensors(target, {**content, "config": config.to_dict()})
    return target


def none_in(run: Path) -> FileNotFoundError:
    """Return the error for a run without checkpoints."""
    return FileNotFoundError(f"no checkpoint in {run / FOLDER}; train it again")


def restore_random(random: Mapping[str, Tensor], team: Team | None = None, seed: int = 0) -> None:
    """Set the generators to their states; a rank above 0 gets a new seed if the world changed."""
    team = team or Team()
    own = f"random/{team.rank}/"
    if team.rank and sum(name.endswith("/cpu") for name in random) != team.world:
        generators.seed(derive(seed, team.rank))
    else:
        generators.restore({k.removeprefix(own): v for k, v in random.items() if k.startswith(own)})

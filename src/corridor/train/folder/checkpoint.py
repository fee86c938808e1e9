"""Checkpoints: written whole or not at all, read without running code.

A process alone writes one torch file; several write a folder (`corridor.train.folder.sharded`).
Whoever resumes reads either.
"""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from corridor.data.rng import derive
from corridor.train.folder.files import save_tensors
from corridor.train.processes.team import Team

FOLDER = "checkpoints"
T = TypeVar("T")


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        step: Optimizer steps made; the metrics of a resumed run are cut after it.
        epoch: Epoch of the next batch, from 0.
        batch: Index of the next batch in that epoch.
        images: Training images seen.
        seconds: Training time.
        skips_in_row: Skipped steps since the last one that was not.
        best_accuracy: Best test accuracy so far; None before the first evaluation.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    images: int = 0
    seconds: float = 0.0
    skips_in_row: int = 0
    best_accuracy: float | None = None


class Saver:
    """Writes the checkpoints of a run, those of several processes in the background.

    There the states are copied at once and written while the training goes on; the next checkpoint,
    and the end of the run, wait for it.

    Args:
        out: The run folder.
        team: The processes; all of them call every method alike.
        keep: How many checkpoints to leave.
    """

    def __init__(self, out: Path, team: Team, keep: int) -> None:
        self.out, self.team, self.keep = out, team, keep
        self.under_way: Any = None
        self.group: Any = None
        if team.world > 1:  # its messages must not mix with those of the training
            patience = timedelta(seconds=team.timeout)
            self.group = dist.new_group(backend="gloo", timeout=patience)

    def save(self, position: Position, states: dict[str, Any]) -> None:
        """Write a checkpoint, and remove all but the newest.

        Raises:
            OSError: If it, or the one before, cannot be written.
        """
        if self.team.world == 1:
            save(self.out, position, states, keep=self.keep)
            return
        self.wait()
        from corridor.train.folder import sharded

        self.team.doing = f"the checkpoint of step {position.step}"
        path = self.team.together(lambda: self._prepared(position))
        states = {**states, "random": self.team.gather(_as_text(_random_state()))}
        tensors: dict[str, torch.Tensor] = {}
        plain = sharded.split({"position": asdict(position), "states": states}, tensors)
        writer = sharded.Writer(path, plain, lambda: _prune(self.out, path, self.keep))
        self.under_way = path, sharded.start(tensors, writer, self.group)

    def _prepared(self, position: Position) -> Path:
        path = self.out / FOLDER / f"step-{position.step:09d}"
        if self.team.first:
            path.parent.mkdir(exist_ok=True)
            for left in path.parent.glob(".*.tmp"):  # of processes killed while writing
                _remove(left)
        return path

    def wait(self) -> None:
        """Until what was handed over is written.

        Raises:
            OSError: If it cannot be.
        """
        if self.under_way is None:
            return
        (path, future), self.under_way = self.under_way, None
        from corridor.train.folder import sharded

        self.team.doing = f"the end of {path.name}"
        self.team.together(lambda: sharded.end(path, future))


def save(out: Path, position: Position, states: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint of one process and remove all but the newest.

    Args:
        out: The run folder.
        position: How far the run has come.
        states: State dicts of what is trained, by name.
        keep: How many checkpoints to leave.

    Raises:
        OSError: If it cannot be written.
    """
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{position.step:09d}.pt"
    content = {"position": asdict(position), "states": states, "random": _random_state()}
    try:
        save_tensors(path, content)
    except OSError as error:
        raise OSError(f"{error}; make room, and go on with --resume") from error
    _prune(out, path, keep)
    for left in folder.glob(".*.tmp"):  # of a process killed while writing
        _remove(left)
    return path


def _prune(out: Path, path: Path, keep: int) -> None:
    """Leave the newest up to the one just written; those ahead are damaged, and were passed."""
    found = _newest_first(out)
    ahead = found.index(path)
    for old in found[:ahead] + found[ahead + keep :]:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def load(out: Path, team: Team | None = None, like: Any = None) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None if there is none.

    A damaged one is passed over with a warning. The random state is left to the caller, who sets
    it with ``restore_random`` when nothing draws from it any more but the training.

    Args:
        out: The run folder.
        team: The processes that load it together.
        like: As for `corridor.train.folder.sharded.read`.

    Raises:
        ValueError: If there are checkpoints and all are damaged.
    """
    if team is None or team.world == 1:
        return _soundest(out, lambda path: read(path, like))
    name = team.together(lambda: _soundest(out, _checked) if team.first else None)
    name = team.gather(name)[0]
    if name is None:
        return None
    path = out / FOLDER / name
    return team.together(lambda: _content(path, like, together=True))


def _soundest(out: Path, take: Callable[[Path], T]) -> T | None:
    """What is taken from the newest checkpoint that is whole; from another it is a ValueError."""
    found = _newest_first(out)
    for path in found:
        try:
            return take(path)
        except ValueError as error:
            warnings.warn(f"{error}; taking the one before", stacklevel=3)
    if found:
        raise ValueError(f"all checkpoints in {out / FOLDER} are damaged; give a new folder")
    return None


def _checked(path: Path) -> str:
    check(path)
    return path.name


def check(path: Path) -> None:
    """Raise a ValueError unless a checkpoint is whole."""
    if path.is_dir():
        from corridor.train.folder import sharded

        sharded.check(path)
    else:
        read(path)


def read(path: Path, like: Any = None) -> dict[str, Any]:
    """One checkpoint: its position, states and random state.

    Args:
        path: The file, or the folder.
        like: As for `corridor.train.folder.sharded.read`.

    Raises:
        ValueError: If it is damaged.
    """
    if path.is_dir():
        check(path)
    return _content(path, like, together=False)


def _content(path: Path, like: Any, *, together: bool) -> dict[str, Any]:
    if path.is_dir():
        from corridor.train.folder import sharded

        content = sharded.read(path, like, together=together)
        position, states = Position(**content["position"]), content["states"]
        return {"position": position, "random": states.pop("random"), "states": states}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        position = Position(**content["position"])
        return {"position": position, **{key: content[key] for key in ("states", "random")}}
    except OSError as error:
        raise OSError(f"cannot read {path} ({error.strerror or error}); try again") from error
    except Exception as error:  # a torn file raises whatever its torn part suggests
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{path} is damaged ({reason})") from error


def paths(out: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    return _newest_first(out)[::-1]


def export(run: Path, target: Path) -> Path:
    """Write a run's newest checkpoint to one torch file, whatever processes had saved it.

    Args:
        run: The run folder.
        target: The file; ``torch.load(target, weights_only=True)`` gives a dict with ``model`` and
            ``optimizer``, their state dicts, ``step``, ``epoch`` and ``config``.

    Raises:
        FileNotFoundError: If there is no run or no checkpoint.
        ValueError: If all checkpoints are damaged.
    """
    from corridor.train.folder.record import read_config

    config = read_config(run)
    if config is None:
        raise FileNotFoundError(f"no run in {run}: it has no config.json")
    saved = load(run)
    if saved is None:
        raise FileNotFoundError(f"no checkpoint in {run / FOLDER}; train it again")
    states, position = saved["states"], saved["position"]
    content = {
        "model": states["model"],
        "optimizer": states["optimizer"],
        "step": position.step,
        "epoch": position.epoch,
        "config": config.to_dict(),
    }
    save_tensors(target, content)
    return target


def restore_random(states: Any, team: Team | None = None, seed: int = 0) -> None:
    """Set torch's random number generators to a checkpoint's ``random`` entry.

    Args:
        states: The entry: of one process, or a list with those of all ranks.
        team: The processes that go on. Where they are not as many as before, the first goes on as
            the first did, and the others begin anew.
        seed: What they begin with.
    """
    team = team or Team()
    saved = [_from_text(s) for s in states] if isinstance(states, list) else [states]
    if team.rank and len(saved) != team.world:
        torch.manual_seed(derive(seed, team.rank))
        return
    own = saved[team.rank]
    torch.set_rng_state(own["cpu"])
    if own["cuda"] and len(own["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(own["cuda"])


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _as_text(state: dict[str, Any]) -> dict[str, Any]:
    def text(t: torch.Tensor) -> str:
        return bytes(t.tolist()).hex()

    return {"cpu": text(state["cpu"]), "cuda": [text(t) for t in state["cuda"]]}


def _from_text(state: dict[str, Any]) -> dict[str, Any]:
    def tensor(text: str) -> torch.Tensor:
        return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)

    return {"cpu": tensor(state["cpu"]), "cuda": [tensor(t) for t in state["cuda"]]}


def _newest_first(out: Path) -> list[Path]:
    return sorted((out / FOLDER).glob("step-*"), reverse=True)

"""The run folder: config, environment, metrics, summary.

``metrics.jsonl`` holds one object a line: for every step ``step`` (how many were made),
``epoch`` (from 0), ``loss`` (of the batch, before the step), ``effective_lr``, ``grad_norm``,
``skipped`` (steps skipped so far) and ``seconds`` (of training; evaluations and checkpoints not
counted), ``drift_limit`` (the largest step that drift allows) where there is one, and where the run
is probed also the numbers of ``corridor.geometry.Measures`` for that batch before the step, the
secant's as ``secant_...``; for every evaluation ``step``, ``epoch`` (how many are complete),
``test_loss``, ``test_accuracy``, ``seconds``.
In all JSON files a number that is not finite is the string ``"inf"``, ``"-inf"`` or ``"nan"``;
readers give floats.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corridor.train.config import LENGTH, Config, differences
from corridor.train.folder.environment import environment
from corridor.train.folder.files import atomic, dumps, numbers, read_json, read_lines, write_json

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
TRAINING = frozenset(
    {"epoch", "loss", "effective_lr", "grad_norm", "skipped", "seconds", "drift_limit"}
)


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        status: ``finished``, ``diverged`` or ``failed``.
        steps: Optimizer steps made.
        seconds: Training time, evaluations and checkpoints not counted.
        images_per_second: Training images by training seconds.
        final_loss: Mean of the batch losses of the last epoch's worth of steps.
        best_test_accuracy: Best of all evaluations, between 0 and 1; None if there was none.
        final_test_accuracy: Of the last evaluation; None if there was none.
        skipped: Steps the optimizer skipped.
        parameters: Trainable numbers of the network.
        data: Title of the data set.
        images: Training images.
        classes: What they are told apart into; 0 in runs of older versions.
        message: What went wrong, where something did.
    """

    status: str
    steps: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    final_loss: float | None = None
    best_test_accuracy: float | None = None
    final_test_accuracy: float | None = None
    skipped: int = 0
    parameters: int = 0
    data: str = ""
    images: int = 0
    classes: int = 0
    message: str = ""


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds.

    Attributes:
        config: What was asked for.
        environment: Where it ran.
        steps: The step lines of the metrics, in order.
        evaluations: The evaluation lines of the metrics, in order.
        summary: How it ended, as a mapping; None while it has not.
    """

    config: Config
    environment: dict[str, Any]
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    summary: dict[str, Any] | None


def read_run(path: str | Path) -> RunRecord:
    """Read a run folder; an unfinished last line of the metrics is dropped.

    Args:
        path: The folder that ``train`` wrote.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If a file in it is damaged.
    """
    path = Path(path)
    config = read_config(path)
    if config is None:
        raise FileNotFoundError(f"no run in {path}: it has no config.json")
    steps, evaluations = _split(read_lines(path / METRICS))
    summary, place = read_summary(path), path / "environment.json"
    return RunRecord(
        config=config,
        environment=read_json(place) if place.exists() else {},
        steps=steps,
        evaluations=evaluations,
        summary=None if summary is None else asdict(summary),
    )


def read_config(path: Path) -> Config | None:
    """The config of a run folder; None if there is none."""
    file = path / "config.json"
    return Config.from_dict(read_json(file)) if file.exists() else None


def read_summary(path: Path) -> Summary | None:
    """The summary of a run folder; None if the run has not ended."""
    file = path / SUMMARY
    if not file.exists():
        return None
    try:
        return Summary(**numbers(read_json(file)))
    except TypeError as error:
        raise ValueError(f"{file} is no summary of this version ({error}); remove it") from error


def write_summary(path: Path, summary: Summary) -> None:
    """Write how a run ended."""
    write_json(path / SUMMARY, asdict(summary))


def write_failure(path: Path, config: Config, message: str) -> None:
    """Record a run that raised or was killed; it may be resumed."""
    path.mkdir(parents=True, exist_ok=True)
    if read_config(path) is None:
        write_json(path / "config.json", config.to_dict())
    try:
        steps, evaluations = _split(read_lines(path / METRICS))
    except ValueError:  # damaged, which may be the failure
        steps, evaluations = [], []
    last = steps[-1] if steps else {"step": 0, "seconds": 0.0, "skipped": 0}
    accuracies = [line["test_accuracy"] for line in evaluations]
    write_summary(
        path,
        Summary(
            status="failed",
            steps=last["step"],
            seconds=last["seconds"],
            skipped=last["skipped"],
            best_test_accuracy=max(accuracies, default=None),
            final_test_accuracy=accuracies[-1] if accuracies else None,
            message=message,
        ),
    )


def open_folder(out: Path, config: Config, *, resume: bool) -> Summary | None:
    """Make sure that a run may be written to a folder, before anything slow is done.

    Args:
        out: The folder.
        config: What is to be run in it.
        resume: Whether a run found there is to be continued.

    Returns:
        The summary found there, if that very run has ended.

    Raises:
        ValueError: If a run is there and may not be continued.
        OSError: If the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with atomic(out / ".writable"):
            pass
        (out / ".writable").unlink()
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot write to {out} ({reason}); give a folder that can be written") from (
            error
        )
    found = read_config(out)
    if found is None:
        check_free(out)
        return None
    if not resume:
        raise ValueError(f"{out} holds a run; continue it with --resume, or give a new folder")
    check_same(out, found, config)
    summary = read_summary(out)
    if summary is None or summary.status == "failed":
        return None
    same_length = all(getattr(found, name) == getattr(config, name) for name in LENGTH)
    return summary if same_length or summary.status == "diverged" else None


def check_free(out: Path) -> None:
    """Raise a ValueError if a path that holds no run holds anything else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out} is a file; give a new folder")
    # What begins with a dot is the temporary file of a process killed at the start.
    if not all(file.name.startswith(".") for file in out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no run; give a new folder")


def check_same(out: Path | str, found: Config, config: Config) -> None:
    """Raise a ValueError if a run cannot be continued with another config.

    Options that change no number may differ, and so may the length (epochs, steps) under a
    constant schedule.
    """
    names = differences(found, config)
    if config.schedule == "constant":
        names = [name for name in names if name not in LENGTH]
    if names:
        changes = ", ".join(f"{n} {getattr(found, n)} -> {getattr(config, n)}" for n in names)
        raise ValueError(
            f"{out} holds a run with another config ({changes}); give its own options again, as in "
            "its config.json, or give a new folder"
        )


class Recorder:
    """Writes a run folder while the run goes on.

    Args:
        out: The folder, as ``open_folder`` left it.
        config: Written to config.json.
        step: Steps made before; metrics of later ones are removed.
    """

    def __init__(self, out: Path, config: Config, step: int) -> None:
        self.out = out
        (out / SUMMARY).unlink(missing_ok=True)
        write_json(out / "config.json", config.to_dict())
        write_json(out / "environment.json", environment())
        kept = [line for line in read_lines(out / METRICS) if line["step"] <= step]
        with atomic(out / METRICS) as file:
            file.writelines(f"{dumps(line)}\n".encode() for line in kept)
        self._file = (out / METRICS).open("a", encoding="utf-8")
        self._board = None
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"cannot write {self._file.name} ({error.strerror}); make room, and go on with "
                "--resume"
            ) from error

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Add lines to the metrics."""
        lines = list(lines)
        with self._on_disk():
            self._file.write("".join(f"{dumps(line)}\n" for line in lines))
            self._file.flush()
        if self._board is not None:
            for line in lines:
                for key in line.keys() - {"step"}:
                    test = "test" if key.startswith("test") else "geometry"
                    folder = "train" if key in TRAINING else test
                    self._board.add_scalar(f"{folder}/{key}", line[key], line["step"])

    def sync(self) -> None:
        """Bring all that was written onto the disk."""
        with self._on_disk():
            os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Close the files."""
        with self._on_disk():
            self._file.close()
        if self._board is not None:
            self._board.close()


class Nobody:
    """Writes nothing, as ranks other than the first."""

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _split(lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return (
        [line for line in lines if "loss" in line],
        [line for line in lines if "test_loss" in line],
    )

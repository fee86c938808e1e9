"""Write and read a run folder: config, environment, metrics (docs/quickstart.md) and summary."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import corridor
from corridor.train.config import LENGTH, Config, differences, one_of, typed
from corridor.train.folder import files

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
TRAINING = {"epoch", "loss", "effective_lr", "grad_norm", "skipped", "seconds", "drift_limit"}
STEP = ("step", "epoch", "loss", "skipped", "seconds")
EVALUATION = ("step", "test_loss")


@dataclass(frozen=True)
class Summary:
    """Describe how a run ended.

    Attributes:
        status: ``finished``, ``diverged`` or ``failed``.
        steps: Number of optimizer steps (default: 0).
        seconds: Training time without evaluations and checkpoints (default: 0).
        images_per_second: Training images per second of training time (default: 0).
        final_loss: Mean of the batch losses over the last steps, one epoch long (default:
            None, no step was made, or metrics.jsonl has lost lines).
        best_test_accuracy: Maximum over all evaluations, in [0, 1] (default: None, no evaluation).
        final_test_accuracy: Of the last evaluation, in [0, 1] (default: None, no evaluation).
        skipped: Number of steps that the optimizer skipped (default: 0).
        parameters: Number of trainable values in the network (default: 0).
        data: Title of the data set (default: empty).
        images: Number of training images (default: 0).
        classes: Number of classes (default: 0, as in runs of older versions).
        message: Reason why the run diverged or failed, or why its numbers are not reliable
            (default: empty).
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
    """Hold the content of a run folder.

    Attributes:
        config: The config of the run.
        environment: Versions, hardware and command, as in environment.json.
        steps: Step lines of the metrics, in order.
        evaluations: Evaluation lines of the metrics, in order.
        summary: The fields of `Summary`; None if the run has not ended.
    """

    config: Config
    environment: dict[str, Any]
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    summary: dict[str, Any] | None


def read_run(path: str | Path) -> RunRecord:
    """Read a run folder, without an unfinished last line of the metrics.

    Args:
        path: Folder that ``train`` wrote.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: A file in the folder is damaged.
    """
    path = Path(path)
    config = require_config(path)
    steps, evaluations = _split(read_metrics(path))
    summary, place = read_summary(path), path / "environment.json"
    return RunRecord(
        config=config,
        environment=files.read_json(place) if place.exists() else {},
        steps=steps,
        evaluations=evaluations,
        summary=None if summary is None else asdict(summary),
    )


def read_config(path: Path) -> Config | None:
    """Return the config of a run folder, or None if the folder holds no run."""
    file = path / "config.json"
    try:
        return Config.from_dict(files.read_json(file)) if file.exists() else None
    except ValueError as error:
        raise ValueError(f"{file} must hold a config, got an error: {error}") from error


def require_config(path: Path) -> Config:
    """Return the config of a run folder; raise FileNotFoundError if the folder holds no run."""
    config = read_config(path)
    if config is None:
        raise FileNotFoundError(f"no run in {path}: it has no config.json")
    return config


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics, without an unfinished last line."""
    lines = files.read_lines(path / METRICS)
    for number, line in enumerate(lines, 1):
        names = STEP if "loss" in line else EVALUATION
        right = all(isinstance(value, int | float) for value in line.values())
        if not right or not all(name in line for name in names):
            raise ValueError(
                f"{path / METRICS} must have numbers {', '.join(names)} in every line, got "
                f"{files.dumps(line)[:80]} in line {number}; repair or remove the file"
            )
    return lines


def read_summary(path: Path) -> Summary | None:
    """Return the summary of a run folder, or None if the run has not ended."""
    file = path / SUMMARY
    if not file.exists():
        return None
    try:
        summary = Summary(**files.numbers(files.read_json(file)))
        for entry in fields(Summary):
            typed(entry.name, getattr(summary, entry.name), entry.type)
        one_of("status", summary.status, ("finished", "diverged", "failed"))
        return summary
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} must fit this version ({error}); remove it") from error


def write_summary(path: Path, summary: Summary) -> None:
    """Write summary.json."""
    files.write_json(path / SUMMARY, asdict(summary))


def summarized(steps: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> Summary:
    """Return a summary of the lines of the metrics, with the status ``failed``."""
    last = steps[-1] if steps else {"step": 0, "seconds": 0.0, "skipped": 0}
    accuracies = [line["test_accuracy"] for line in evaluations if "test_accuracy" in line]
    return Summary(
        status="failed",
        steps=last["step"],
        seconds=last["seconds"],
        skipped=last["skipped"],
        best_test_accuracy=max(accuracies, default=None),
        final_test_accuracy=accuracies[-1] if accuracies else None,
    )


def write_failure(path: Path, config: Config, message: str) -> None:
    """Write a summary with status ``failed``, so that the run can be resumed."""
    path.mkdir(parents=True, exist_ok=True)
    if read_config(path) is None:
        files.write_json(path / "config.json", config.to_dict())
    try:
        steps, evaluations = _split(read_metrics(path))
    except ValueError:  # damaged metrics can be the reason of the failure
        steps, evaluations = [], []
    write_summary(path, replace(summarized(steps, evaluations), message=message))


def open_folder(out: Path, config: Config, *, resume: bool) -> Summary | None:
    """Raise unless a run can be written to a folder; return its summary if it has ended there."""
    files.made(out)
    return ended(out, config, resume=resume, other_length=True)


def ended(
    out: Path, config: Config, *, resume: bool = True, other_length: bool = False
) -> Summary | None:
    """Return the summary of a run that has ended in a folder, or raise ValueError."""
    found = read_config(out)
    if found is None:
        if out.exists() and not out.is_dir():
            raise ValueError(f"{out} is a file; give a new folder")
        # Names with a dot are locks, and temporary files of a process killed at the start.
        if out.exists() and not all(file.name.startswith(".") for file in out.iterdir()):
            raise ValueError(f"{out} is not empty and holds no run; give a new folder")
        return None
    if not resume:
        raise ValueError(f"{out} holds a run; continue it with --resume, or give a new folder")
    longer = LENGTH.intersection(differences(found, config))
    if names := differences(found, config, other_length=other_length):
        changes = ", ".join(f"{n} {getattr(found, n)} -> {getattr(config, n)}" for n in names)
        raise ValueError(
            f"{out} holds a run with another config ({changes}); give the options of its "
            "config.json, or give a new folder"
        )
    if longer == {"epochs"} and config.steps is not None:
        raise ValueError(
            f"epochs must be {found.epochs} because the run ends after steps {config.steps}, "
            f"got {config.epochs}; give steps"
        )
    summary = read_summary(out)
    if summary is None or summary.status == "failed" or (longer and summary.status == "finished"):
        return None
    return summary


class Recorder:
    """Write a run folder during the run; metrics of steps after `step` are removed."""

    def __init__(self, out: Path, config: Config, step: int) -> None:
        self.out = out
        (out / SUMMARY).unlink(missing_ok=True)
        files.write_json(out / "config.json", config.to_dict())
        files.write_json(out / "environment.json", environment())
        kept = [line for line in read_metrics(out) if line["step"] <= step]
        with files.atomic(out / METRICS) as file:
            file.writelines(f"{files.dumps(line)}\n".encode() for line in kept)
        self._file = (out / METRICS).open("a", encoding="utf-8")
        self._board = None
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def _on_disk(self) -> AbstractContextManager[None]:
        return files.writing(self._file.name, "; free disk space, and continue with --resume")

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        """Add lines to the metrics."""
        lines = list(lines)
        with self._on_disk():
            self._file.write("".join(f"{files.dumps(line)}\n" for line in lines))
            self._file.flush()
        if self._board is not None:
            for line in lines:
                for key in line.keys() - {"step"}:
                    test = "test" if key.startswith("test") else "geometry"
                    folder = "train" if key in TRAINING else test
                    self._board.add_scalar(f"{folder}/{key}", line[key], line["step"])

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
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


def _split(lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    steps = [line for line in lines if "loss" in line]
    return steps, [line for line in lines if "test_loss" in line]


def usable_cores() -> int:
    """Return the number of processor cores that this process can use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Return the machine and the software as JSON values."""
    import torch

    from corridor._reduce import world_size

    cuda = torch.cuda.is_available()
    return {
        "corridor": corridor.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    """Return the model of the processor; on Linux, the platform module lacks it."""
    with suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def git_commit(file: Path = Path(corridor.__file__)) -> str | None:
    """Return the commit of a file's checkout, with ``-dirty``, or None for an untracked file."""
    file, answer = file.resolve(), ""
    describe = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    for arguments in (("ls-files", "--error-unmatch", file.name), describe):
        git = ["git", "-C", str(file.parent), *arguments]
        try:
            answer = subprocess.check_output(git, stderr=subprocess.DEVNULL, text=True, timeout=5)
        except (OSError, subprocess.SubprocessError):
            return None
    return answer.strip()

"""Many runs, each in a folder of its own; what is done is not done again."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corridor.train.config import Config, differences
from corridor.train.folder.files import HELD_SECONDS, locked, wait_until_free
from corridor.train.folder.record import (
    Summary,
    check_free,
    read_config,
    read_summary,
    write_failure,
)
from corridor.train.processes.signals import Interrupted, terminable
from corridor.train.sweep.jobs import Event, Job
from corridor.train.sweep.overview import Overview, overview
from corridor.train.sweep.workers import Workers


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        name: Its folder inside the sweep's.
        config: What to train and how.
    """

    name: str
    config: Config


def sweep(
    runs: Sequence[Run],
    out: str | Path,
    *,
    processes: int | Workers | None = None,
    progress: bool = True,
) -> list[Path]:
    """Train many configs, several at a time.

    A run that has ended (finished or diverged) with the same config is left alone; one that was
    interrupted or failed goes on from its newest checkpoint. A run that raises, or whose worker
    is lost too often, gets the status ``failed`` and its message in summary.json, and the others
    go on. The calls, the folders and the numbers are the same on every engine; the numbers are
    those of ``train`` under one thread.

    Args:
        runs: Names and configs; the names must differ.
        out: Folder of the run folders.
        processes: Runs at a time on this machine, the usable cores by default; or ``Workers``, for
            another engine.
        progress: Show progress on stderr.

    Returns:
        The run folders, in the order of ``runs``.

    Raises:
        ValueError: If names repeat or are no folder names, a folder holds another config, or the
            engine cannot take the runs; nothing has been run then.
        OSError: If ``out`` cannot be written, or the engine is not there.
        Interrupted: After Ctrl-C or SIGTERM, when the runs at hand are saved.

    Example:
        ``sweep([Run("a", Config(seed=0)), Run("b", Config(seed=1))], "runs")`` returns
        ``[Path("runs/a"), Path("runs/b")]``. The processes are spawned: in a script, call it under
        ``if __name__ == "__main__":``.
    """
    out = Path(out)
    workers = processes if isinstance(processes, Workers) else Workers(processes=processes)
    folders = [out / name for name in _names(runs)]
    todo = [i for i, run in enumerate(runs) if not _ended(folders[i], run.config)]
    _make(out)
    jobs = [Job(runs[i].config, folders[i].absolute()) for i in todo]
    names = [runs[i].name for i in todo]
    telling = overview(names, len(runs) - len(todo), progress=progress)
    with locked(out), telling as show, terminable() as flag:
        try:
            for event in workers.start()(jobs) if jobs else ():
                _take(event, jobs[event.index], show)
        except KeyboardInterrupt as stop:
            own = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
            number = flag.number or own
            raise Interrupted(f"stopped; the same sweep into {out} goes on", number) from None
    return folders


def _take(event: Event, job: Job, show: Overview) -> None:
    """Record and show one piece of news."""
    if event.kind == "progress":
        show.update(event.index, event.value)
        return
    trouble = _not_here(job)
    failed = event.kind == "failed" or bool(trouble)
    if failed and wait_until_free(job.folder, HELD_SECONDS):  # else somebody is still training it
        write_failure(job.folder, job.config, event.value or trouble)
    show.ended(event.index, f"{job.folder.name}: {_result(read_summary(job.folder))}")


def _not_here(job: Job) -> str:
    """Why what a worker has done does not lie in the run's folder; nothing if it does."""
    summary = read_summary(job.folder)
    if summary is not None and summary.status != "failed":
        return ""
    return f"left no summary in {job.folder}; use a folder that all hosts share"


def _names(runs: Sequence[Run]) -> list[str]:
    names = [run.name for run in runs]
    for name in names:
        if not name or Path(name).name != name or name.startswith("."):
            raise ValueError(f"a run's name must be a plain folder name, got {name!r}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"names of runs must differ, got {', '.join(repeated)} more than once")
    return names


def _ended(folder: Path, config: Config) -> bool:
    """Whether a folder holds this very run, ended; a ValueError if it holds another."""
    found = read_config(folder)
    if found is None:
        check_free(folder)
        return False
    names = differences(found, config)
    if names:
        raise ValueError(
            f"{folder} holds a run with another config (it differs in {', '.join(names)}); "
            "give a new folder"
        )
    summary = read_summary(folder)
    return summary is not None and summary.status != "failed"


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"cannot write to {out} ({error.strerror}); give a folder that can be written"
        ) from error


def _result(summary: Summary | None) -> str:
    if summary is None:
        return "ended without a summary"
    if summary.status == "failed":
        return f"failed: {summary.message}"
    accuracy = summary.final_test_accuracy
    test = "" if accuracy is None else f", test accuracy {accuracy:.2%}"
    return f"{summary.status} after {summary.steps} steps, loss {summary.final_loss:.3g}{test}"

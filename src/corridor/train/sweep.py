"""Many runs in a few processes, each in a folder of its own; what is done is not done again."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from corridor.train.config import Config, differences
from corridor.train.environment import usable_cores
from corridor.train.files import locked
from corridor.train.pool import Event, run_jobs
from corridor.train.progress import Silent
from corridor.train.record import Summary, check_free, read_config, read_summary, write_failure
from corridor.train.stop import Interrupted

# A worker tells how far it is not more often than this, in seconds.
REPORT_SECONDS = 0.25

Show = Callable[[int, float, str | None], None]


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
    processes: int | None = None,
    progress: bool = True,
) -> list[Path]:
    """Train many configs, several at a time, each in a process with one torch thread.

    A run that has ended (finished or diverged) with the same config is left alone; one that was
    interrupted or failed goes on from its newest checkpoint. A run that raises, or whose process
    is killed twice, gets the status ``failed`` and its message in summary.json, and the others go
    on. The numbers are those of ``train`` under one thread.

    Args:
        runs: Names and configs; the names must differ.
        out: Folder of the run folders.
        processes: Runs at a time; the usable cores by default.
        progress: Show progress on stderr.

    Returns:
        The run folders, in the order of ``runs``.

    Raises:
        ValueError: If names repeat or are no folder names, or a folder holds another config;
            nothing has been run then.
        OSError: If ``out`` cannot be written.
        Interrupted: After Ctrl-C, when the runs at hand are saved.

    Example:
        ``sweep([Run("a", Config(seed=0)), Run("b", Config(seed=1))], "runs")`` returns
        ``[Path("runs/a"), Path("runs/b")]``. The processes are spawned: in a script, call it under
        ``if __name__ == "__main__":``.
    """
    out = Path(out)
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    folders = [out / name for name in _names(runs)]
    todo = [i for i, run in enumerate(runs) if not _ended(folders[i], run.config)]
    _make(out)
    jobs = [(runs[i].config, folders[i]) for i in todo]
    with locked(out), _display(progress, done=len(runs) - len(todo), total=len(runs)) as show:
        try:
            for event in run_jobs(_work, jobs, processes or usable_cores()):
                _take(event, *jobs[event.index], show)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; the same sweep into {out} goes on") from None
    return folders


def _take(event: Event, config: Config, folder: Path, show: Show) -> None:
    """Record and show one piece of news."""
    if event.kind == "progress":
        show(event.index, event.value, None)
        return
    if event.kind == "failed":
        write_failure(folder, config, event.value)
    show(event.index, 1.0, f"{folder.name}: {_result(read_summary(folder))}")


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


class _Fraction(Silent):
    """Reports how much of a run is done."""

    def __init__(self, report: Callable[[Any], None]) -> None:
        self._report, self._last, self._total = report, 0.0, 1

    def start(self, title: str, done: int, total: int) -> None:
        """Remember how many steps there are."""
        self._total = total

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        """Report, now and then."""
        now = perf_counter()
        if now - self._last > REPORT_SECONDS:
            self._last = now
            self._report(step / self._total)


def _work(job: tuple[Config, Path], report: Callable[[Any], None]) -> None:
    from corridor.train.loop import train  # in the worker: the parent needs no torch

    config, folder = job
    train(config, folder, resume=True, progress=_Fraction(report))


def _result(summary: Summary | None) -> str:
    if summary is None:
        return "ended without a summary"
    if summary.status == "failed":
        return f"failed: {summary.message}"
    accuracy = summary.final_test_accuracy
    test = "" if accuracy is None else f", test accuracy {accuracy:.2%}"
    return f"{summary.status} after {summary.steps} steps, loss {summary.final_loss:.3g}{test}"


@contextmanager
def _display(progress: bool, *, done: int, total: int) -> Iterator[Show]:
    """A function (job, fraction done, line or None) that shows how far all runs together are."""
    console = Console(stderr=True)
    if not progress:
        yield lambda index, fraction, line: None
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task("runs", total=total, completed=done, ended=done)
            yield _on_bar(bar, task, done)
    else:
        yield _as_lines(done, total)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[ended]}/{task.total}"),
        TimeRemainingColumn(),
        console=console,
        expand=True,
    )


def _on_bar(bar: Progress, task: Any, done: int) -> Show:
    fractions: dict[int, float] = {}
    ended = done

    def show(index: int, fraction: float, line: str | None) -> None:
        nonlocal ended
        fractions[index] = fraction
        ended += line is not None
        if line is not None:
            bar.console.print(line, highlight=False, markup=False)
        bar.update(task, completed=done + sum(fractions.values()), ended=ended)

    return show


def _as_lines(done: int, total: int) -> Show:
    ended, begin = done, perf_counter()

    def show(index: int, fraction: float, line: str | None) -> None:
        nonlocal ended
        if line is None:
            return
        ended += 1
        left = (perf_counter() - begin) / (ended - done) * (total - ended)
        print(f"[{ended}/{total}] {line} ({left:.0f} s left)", file=sys.stderr, flush=True)

    return show

"""One run of a sweep as a job for a worker, whatever process or host the worker lives in."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol

from corridor.train.config import Config
from corridor.train.folder.files import wait_until_free
from corridor.train.folder.progress import Silent

# A worker tells how far it is not more often than this, in seconds.
REPORT_SECONDS = 0.25
# How long a run waits for a dying worker of an earlier sweep to leave its folder, in seconds.
LEAVE_SECONDS = 30.0

Work = Callable[[Any, Callable[[Any], None]], None]


@dataclass(frozen=True)
class Event:
    """News of one job.

    Attributes:
        kind: ``progress`` (value: what the job reported), ``done`` (value: None) or ``failed``
            (value: one line that says why).
        index: Which job.
        value: See kind.
    """

    kind: Literal["progress", "done", "failed"]
    index: int
    value: Any


@dataclass(frozen=True)
class Job:
    """What a worker is handed.

    Attributes:
        config: What to train and how.
        folder: The run folder, absolute.
    """

    config: Config
    folder: Path


class Engine(Protocol):
    """What runs jobs somewhere; ends the workers when it is no longer iterated."""

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """News of the jobs, in the order it comes, until all are done or failed."""
        ...


def run_job(job: Job, report: Callable[[Any], None]) -> None:
    """Train one run in this process, from its newest checkpoint where there is one.

    Args:
        job: What to train, and where to.
        report: Told the fraction that is done, between 0 and 1.
    """
    from corridor.train.loop import train  # in the worker: the parent needs no torch

    wait_until_free(job.folder, LEAVE_SECONDS)
    train(job.config, job.folder, resume=True, progress=_Fraction(report))


def reason(error: BaseException) -> str:
    """An exception as one line.

    >>> reason(RuntimeError("it  cannot be done"))
    'RuntimeError: it cannot be done'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class _Fraction(Silent):
    """Reports how much of a run is done."""

    def __init__(self, report: Callable[[Any], None]) -> None:
        self._report, self._last, self._total = report, 0.0, 1

    def start(self, title: str, done: int, total: int) -> None:
        """Remember how many steps there are."""
        self._total = total
        self._report(done / total)

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        """Report, now and then."""
        now = perf_counter()
        if now - self._last > REPORT_SECONDS:
            self._last = now
            self._report(step / self._total)

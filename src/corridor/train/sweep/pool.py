"""Run jobs in this process, or in worker processes of this machine."""

import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import active_children, connection, get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

from corridor.train.config import Config
from corridor.train.folder.files import wait_until_free
from corridor.train.folder.progress import Reporter
from corridor.train.processes import forget_launcher

# A job whose worker was killed is tried again this many times.
RETRIES = 1
# Seconds between two looks at the progress of the workers.
POLL_SECONDS = 0.25
# Seconds that a run waits for a dying worker of an earlier sweep to leave its folder.
LEAVE_SECONDS = 30.0

# The file in a run's folder that says where the run raised.
TRACEBACK = "traceback.txt"

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SPAWN = get_context("spawn")
# In a worker: the shared memory of `run_jobs`, which no job can carry.
_parts: Any = None

Work = Callable[[Any, Callable[[float], None]], None]


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its config and its folder, an absolute path."""

    config: Config
    folder: Path


class Ended(NamedTuple):
    """The end of a job: its index, and in one line why it failed; empty if it succeeded."""

    job: int
    error: str


Report = Callable[[int, float], None]
Ends = Generator[Ended, None, None]
# Called as ``runner(jobs, report=report)``; ends its workers when the iterator is closed.
Runner = Callable[..., Ends]


def run_job(job: Job, report: Callable[[float], None]) -> None:
    """Train one run in this process with one torch thread, from its newest checkpoint if any."""
    import torch  # the process that starts a sweep does not need it

    from corridor.train.loop import train

    torch.set_num_threads(1)
    wait_until_free(job.folder, LEAVE_SECONDS)
    (job.folder / TRACEBACK).unlink(missing_ok=True)
    try:
        train(job.config, job.folder, resume=True, progress=_Fraction(report))
    except Exception:
        with suppress(OSError):
            (job.folder / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8")
        raise


class _Fraction(Reporter):
    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report

    def start(self, title: str, done: int, total: int) -> None:
        self._total = total
        self._report(done / total)

    def update(self, step: int, loss: float, effective_lr: float, speed: float) -> None:
        self._report(step / self._total)


def reason(error: BaseException) -> str:
    """Return an exception as one line.

    >>> reason(RuntimeError("it  cannot be done"))
    'RuntimeError: it cannot be done'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def in_this_process(jobs: Sequence[Job], *, report: Report) -> Ends:
    """Train runs one after the other in this process, and yield each as it ends."""
    import torch

    threads = torch.get_num_threads()
    try:
        for index, job in enumerate(jobs):
            yield Ended(index, _attempt(run_job, job, lambda part, i=index: report(i, part)))
    finally:
        torch.set_num_threads(threads)


def run_jobs(
    work: Work,
    jobs: Sequence[Any],
    *,
    processes: int,
    report: Report = lambda index, part: None,
) -> Ends:
    """Run jobs in worker processes with OMP_NUM_THREADS=1; yield each job as it ends.

    If a worker dies, a new one tries its job once more. A job that raises is not tried again. When
    the iterator is closed or this process is killed, the workers get SIGTERM, save and end. The
    function `work` must be at the top of a module.
    """
    waiting, deaths = deque(range(len(jobs))), Counter[int]()
    # Shared memory without a lock: a worker killed while it writes cannot block the others.
    parts = _SPAWN.RawArray("d", len(jobs))
    shown = list(parts)
    workers = [_Worker(parts) for _ in range(min(processes, len(jobs)))]
    idle, running = list(workers), dict[Future[str], tuple[_Worker, int]]()
    try:
        while waiting or running:
            while idle and waiting:
                worker, index = idle.pop(), waiting.popleft()
                running[worker.submit(work, jobs[index], index)] = worker, index
            done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
            for index, (part, before) in enumerate(zip(parts, shown, strict=True)):
                if part != before:
                    report(index, part)
            shown = list(parts)
            for future in done:
                worker, index = running.pop(future)
                idle.append(worker)
                error = future.exception()
                if not isinstance(error, BrokenProcessPool):
                    yield Ended(index, reason(error) if error else future.result())
                    continue
                cause = worker.renew()
                deaths[index] += 1
                if deaths[index] <= RETRIES:
                    waiting.appendleft(index)
                else:
                    yield Ended(index, f"{cause} {deaths[index]} times")
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.close()


class _Worker:
    """Keep one worker process, and replace it after its death."""

    def __init__(self, parts: Any) -> None:
        self._parts = parts
        self._open()

    def _open(self) -> None:
        self._process: Any = None
        self._executor = ProcessPoolExecutor(1, _SPAWN, _begin, (self._parts,))

    def submit(self, work: Work, job: Any, index: int) -> Future[str]:
        """Hand over a job; start the process if there is none."""
        with _starting():
            before = active_children()
            try:
                future = self._executor.submit(_do, work, job, index)
            except BrokenProcessPool:  # the process died between two jobs
                self.renew()
                future = self._executor.submit(_do, work, job, index)
            # The executor hides its process, which has the exit code and must receive SIGTERM.
            started = [process for process in active_children() if process not in before]
            self._process = started[0] if started else self._process
        return future

    def renew(self) -> str:
        """Prepare a new process, and return what ended the old one."""
        self._executor.shutdown()
        code = self._process.exitcode if self._process else None
        self._open()
        if code is not None and code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        return f"its process ended with status {code}"

    def terminate(self) -> None:
        """Send SIGTERM to the process."""
        if self._process is not None:
            self._process.terminate()

    def close(self) -> None:
        """Wait for the process to end."""
        self._executor.shutdown(cancel_futures=True)


@contextmanager
def _starting() -> Iterator[None]:
    """Give new processes one thread each, and delay signals until the block ends."""
    threads = os.environ.get("OMP_NUM_THREADS")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin(parts: Any) -> None:
    """Prepare a worker process."""
    # The terminal sends Ctrl-C to all processes; only the process of the sweep may react.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    forget_launcher()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _parts
    _parts = parts


def _do(work: Work, job: Any, index: int) -> str:
    """Run a job in a worker process."""
    try:
        return _attempt(work, job, lambda part: _parts.__setitem__(index, part))
    except KeyboardInterrupt:
        # The run is saved. The executor's loop would catch the exception and wait for more jobs.
        os._exit(128 + signal.SIGTERM)


def _attempt(work: Work, job: Any, report: Callable[[float], None]) -> str:
    """Run a job; return its error message, or an empty string."""
    try:
        work(job, report)
    except Exception as error:
        return reason(error)
    return ""


def _end_with_parent() -> None:
    """Send SIGTERM to this process when its parent has ended."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)

"""Run jobs in this process, or in worker processes of this machine."""

import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from corridor._extras import reason
from corridor.train.config import Config
from corridor.train.folder.files import wait_until_free
from corridor.train.folder.progress import Reporter
from corridor.train.processes import forget_launcher

RETRIES = 1
# Seconds that a run waits for a dying worker of an earlier sweep to leave its folder.
LEAVE_SECONDS = 30.0
TRACEBACK = "traceback.txt"
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SPAWN = get_context("spawn")

Work = Callable[[Any, Callable[[float], None]], None]


@dataclass(frozen=True)
class Job:
    """Hold one run of a sweep: its config and its folder, an absolute path."""

    config: Config
    folder: Path


Report = Callable[[int, float], None]
# The index of each job that ends, and in one line why it failed; empty if it succeeded.
Ends = Generator[tuple[int, str], None, None]
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


def in_this_process(jobs: Sequence[Job], *, report: Report) -> Ends:
    """Train runs one after the other in this process, and yield each as it ends."""
    import torch

    threads = torch.get_num_threads()
    try:
        for index, job in enumerate(jobs):
            yield index, _attempt(run_job, job, lambda part, i=index: report(i, part))
    finally:
        torch.set_num_threads(threads)


def run_jobs(
    work: Work, jobs: Sequence[Any], *, processes: int, report: Report = lambda index, part: None
) -> Ends:
    """Run jobs in worker processes with OMP_NUM_THREADS=1; yield each job as it ends.

    If a worker dies, a new one tries its job once more. When the iterator is closed or this process
    is killed, the workers get SIGTERM, save and end. `work` must be at the top of a module.
    """
    waiting, deaths = deque(range(len(jobs))), Counter[int]()
    workers = [_Worker() for _ in range(min(processes, len(jobs)))]
    idle, running = list(workers), dict[Any, tuple[_Worker, int]]()
    try:
        while waiting or running:
            while idle and waiting:
                worker, index = idle.pop(), waiting.popleft()
                running[worker.submit(work, jobs[index])] = worker, index
            for pipe in connection.wait(list(running)):
                worker, index = running[pipe]
                part, error = worker.receive()
                if part is not None:
                    report(index, part)
                    continue
                idle.append(running.pop(pipe)[0])
                if error is None:
                    deaths[index] += 1
                    if deaths[index] <= RETRIES:
                        waiting.appendleft(index)
                        continue
                    error = f"{worker.fate()} {deaths[index]} times"
                yield index, error
    finally:
        started = [worker for worker in workers if worker.process]
        for worker in started:
            worker.pipe.close()  # a process that writes to a full pipe could not end
            worker.process.terminate()
        for worker in started:
            worker.process.join()


class _Worker:
    """Keep one worker process, and replace it after its death."""

    process: Any = None
    pipe: Any = None

    def submit(self, work: Work, job: Any) -> Any:
        """Hand over a job; start a process if none is alive. Return the pipe for `receive`."""
        if self.process is None or not self.process.is_alive():
            with _starting():
                self.pipe, theirs = _SPAWN.Pipe()
                process = _SPAWN.Process(target=_serve, args=(theirs,))
                process.start()
                self.process = process
                theirs.close()
        with suppress(ConnectionError):  # a process that dies now is found dead by `receive`
            self.pipe.send((work, job))
        return self.pipe

    def receive(self) -> tuple[float | None, str | None]:
        """Return the job's progress, or the error it ended with, or neither after a death."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return None, None

    def fate(self) -> str:
        code = self.process.exitcode
        if code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        return f"its process ended with status {code}"


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


def _serve(pipe: Any) -> None:
    """Run jobs in a worker process, until the process of the sweep ends."""
    # The terminal sends Ctrl-C to all processes; only the process of the sweep may react.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    forget_launcher()
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(part: float | None, error: str | None = None) -> None:
        with suppress(ConnectionError):  # the sweep has ended, and SIGTERM follows
            pipe.send((part, error))

    with suppress(EOFError, ConnectionError):
        while True:
            work, job = pipe.recv()
            try:
                tell(None, _attempt(work, job, tell))
            except KeyboardInterrupt:  # the run is saved
                os._exit(128 + signal.SIGTERM)


def _attempt(work: Work, job: Any, report: Callable[[float], None]) -> str:
    """Run a job; return its error message, or an empty string."""
    try:
        work(job, report)
    except Exception as error:
        return reason(error)
    return ""


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)

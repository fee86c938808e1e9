"""A pool of worker processes that survives the death of any of them."""

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from corridor.train.processes.launch import forget_launcher
from corridor.train.sweep.jobs import Engine, Event, Job, Work, reason, run_job

# A job whose worker was killed is tried again this often.
RETRIES = 1


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    job: int | None = None


def pool(processes: int) -> Engine:
    """An engine: a pool of so many processes on this machine."""

    def engine(jobs: Sequence[Job]) -> Iterator[Event]:
        return run_jobs(run_job, jobs, processes)

    return engine


def run_jobs(work: Work, jobs: Sequence[Any], processes: int) -> Iterator[Event]:
    """Do jobs in worker processes that live as long as there is work, one torch thread each.

    A job that raises is ``failed`` and the others go on; one whose worker is killed by a signal
    is tried once more. When the caller stops iterating, or is interrupted, the workers are sent
    SIGTERM and waited for; when the caller is killed, they send it to themselves.

    Args:
        work: Called as ``work(job, report)`` in a worker; a function at the top of a module.
        jobs: What is to be done; must pickle.
        processes: Workers at most.

    Yields:
        News, in the order it comes.
    """
    waiting = deque(range(len(jobs)))
    deaths = [0] * len(jobs)
    workers = [_start(work) for _ in range(min(processes, len(jobs)))]
    try:
        while workers:
            for worker in [w for w in workers if w.job is None]:
                _give(worker, workers, waiting, jobs)
            for worker in _ready(workers):
                job = worker.job
                assert job is not None
                event = _receive(worker)
                if event is not None:
                    yield Event(event[0], job, event[1])
                    continue
                workers[workers.index(worker)] = _start(work)
                deaths[job] += 1
                if deaths[job] <= RETRIES:
                    waiting.appendleft(job)
                else:
                    yield Event("failed", job, _cause(worker.process.exitcode))
    finally:
        for worker in workers:
            worker.process.terminate()
            worker.pipe.close()  # one whose job ended all the same waits here for the next
        for worker in workers:
            worker.process.join()


def _start(work: Work) -> _Worker:
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(work, there))
    with _for_children():
        process.start()
    there.close()  # so that the worker's death closes the pipe
    return _Worker(process, here)


def _give(
    worker: _Worker, workers: list[_Worker], waiting: deque[int], jobs: Sequence[Any]
) -> None:
    """Hand the next job to an idle worker, or send it home."""
    if waiting:
        worker.job = waiting.popleft()
        with suppress(ConnectionError):  # it died while idle, which is noticed when waiting
            worker.pipe.send(jobs[worker.job])
    else:
        workers.remove(worker)
        worker.pipe.close()
        worker.process.join()


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Workers that sent something or died; waits for the first."""
    if not workers:
        return []
    ready = set(wait([w.pipe for w in workers] + [w.process.sentinel for w in workers]))
    return [w for w in workers if w.pipe in ready or w.process.sentinel in ready]


def _receive(worker: _Worker) -> tuple[Any, Any] | None:
    """What a worker sent; None if it died."""
    try:
        if worker.pipe.poll():
            kind, value = worker.pipe.recv()
            if kind != "progress":
                worker.job = None
            return kind, value
    except (EOFError, ConnectionError):
        pass
    worker.process.join()
    return None


def _cause(exitcode: int) -> str:
    times = RETRIES + 1
    if exitcode < 0:
        return f"its process was killed by {signal.Signals(-exitcode).name} {times} times"
    return f"its process ended with status {exitcode} {times} times"


@contextmanager
def _for_children() -> Iterator[None]:
    """What new processes are to inherit: one thread, and deafness to Ctrl-C.

    The terminal sends Ctrl-C to all; this process alone answers, and tells the workers.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


def _serve(work: Work, pipe: Connection) -> None:
    """The life of a worker."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forget_launcher()
    torch.set_num_threads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()

    def tell(kind: str, value: Any) -> None:
        with suppress(ConnectionError):  # nobody listens any more; the job at hand is still saved
            pipe.send((kind, value))

    while True:
        try:
            job = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            work(job, lambda value: tell("progress", value))
            answer = ("done", None)
        except Exception as error:
            answer = ("failed", reason(error))
        except KeyboardInterrupt:
            return  # stopped and saved; the parent is not waiting any more
        tell(*answer)


def _follow_parent() -> None:
    """When the parent is gone, end as if it had asked for it."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)

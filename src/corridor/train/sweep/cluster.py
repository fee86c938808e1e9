"""Runs of a sweep as tasks on a Ray cluster; the one file that names ray."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

from corridor.train.processes.launch import forget_launcher
from corridor.train.processes.signals import Interrupted
from corridor.train.sweep.jobs import Engine, Event, Job, reason, run_job

# A run whose worker or host was lost is tried again this often.
RETRIES = 3
# A cluster that does not answer for so long is not there, in seconds.
ANSWER_SECONDS = 15.0
# How long runs are given to save themselves when the sweep is interrupted, in seconds.
SAVE_SECONDS = 60.0
POLL_SECONDS = 0.5


class StoppedError(RuntimeError):
    """A worker was asked to stop, as when its host goes away; the saved run goes on elsewhere."""


def connect(address: str | None, *, gpus_per_run: float | None, retries: int | None) -> Engine:
    """Join a cluster, and see that it can take a run.

    Args:
        address: ``HOST:PORT`` of its head; None for the one this machine is a node of, ``local``
            for one of its own.
        gpus_per_run: GPUs of a task; None for 1 where there are any and the config may use it.
        retries: How often a task is tried again; `RETRIES` if None.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: There is no such cluster.
        ValueError: No node has so many GPUs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            'engine ray needs the ray library: pip install "corridor[sweeps]"'
        ) from error
    ours = not ray.is_initialized()
    if ours:
        _join(ray, address)
    try:
        gpus = _gpus(ray, gpus_per_run)
    except ValueError:
        if ours:
            ray.shutdown()
        raise

    def engine(jobs: Sequence[Job]) -> Iterator[Event]:
        try:
            yield from _events(ray, jobs, gpus, RETRIES if retries is None else retries)
        finally:
            if ours:
                ray.shutdown()

    return engine


def _join(ray: Any, address: str | None) -> None:
    if address != "local":
        _ask(address)
    try:
        with _termination_kept():
            ray.init(
                address=address or "auto",
                log_to_driver=False,
                logging_level="ERROR",
                include_dashboard=False if address == "local" else None,
            )
    except Exception as error:
        raise ConnectionError(f"{_where(address)} cannot be joined: {reason(error)}") from error


def _ask(address: str | None) -> None:
    """Raise a ConnectionError unless the cluster's head answers in time.

    Asked from a process of its own: `ray.init` waits for minutes and then ends the process.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    command += ["--address", address] if address else []
    try:
        done = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, check=False)
        there = done.returncode == 0
    except subprocess.TimeoutExpired:
        there = False
    if not there:
        raise ConnectionError(
            f"{_where(address)} does not answer; start one by: ray start --head (and on other "
            "hosts: ray start --address HOST:PORT), or give --address, or --engine local"
        )


def _where(address: str | None) -> str:
    address = address or os.environ.get("RAY_ADDRESS")
    return f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"


@contextmanager
def _termination_kept() -> Iterator[None]:
    """Keep what SIGTERM does here: Ray puts a handler of its own in its place."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, before)


def _gpus(ray: Any, wanted: float | None) -> float:
    """GPUs of a run that may use one: what is wanted, else 1 where there are any."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    if wanted and wanted > most:
        raise ValueError(
            f"each run asks for {wanted:g} GPUs, and the cluster's largest node has {most:g}; "
            "give a smaller --gpus-per-run"
        )
    if wanted is None:
        return 1.0 if most else 0.0
    return wanted


def _events(ray: Any, jobs: Sequence[Job], gpus: float, retries: int) -> Iterator[Event]:
    here = ray.get_runtime_context().get_node_id()
    near = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=True)
    board = (
        ray.remote(_Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=near).remote()
    )
    task = ray.remote(max_retries=retries, retry_exceptions=[StoppedError], num_cpus=1)(_task)
    versions = _versions()
    waiting = {
        task.options(num_gpus=0 if job.config.device == "cpu" else gpus)
        .remote(job, index, board, versions): index
        for index, job in enumerate(jobs)
    }  # fmt: skip
    try:
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_SECONDS)
            for ref in ready:
                index = waiting.pop(ref)
                yield _outcome(ray, ref, index, retries)
            for index, value in _news(ray, board).items():
                yield Event("progress", index, value)
    finally:
        _end(ray, list(waiting))


def _outcome(ray: Any, ref: Any, index: int, retries: int) -> Event:
    try:
        ray.get(ref)
        return Event("done", index, None)
    except ray.exceptions.RayTaskError as error:
        return Event("failed", index, reason(error.cause))
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines() or [""]
        name = type(error).__name__
        return Event("failed", index, f"its worker was lost {retries + 1} times ({name}: {why[0]})")


def _news(ray: Any, board: Any) -> dict[int, float]:
    try:
        return ray.get(board.take.remote(), timeout=POLL_SECONDS)
    except ray.exceptions.RayError:  # progress is not worth a sweep
        return {}


def _end(ray: Any, waiting: list[Any]) -> None:
    """Have the tasks that are still there save and end."""
    if not waiting or not ray.is_initialized():
        return
    for ref in waiting:
        ray.cancel(ref, force=False)
    with suppress(Exception):
        ray.wait(waiting, num_returns=len(waiting), timeout=SAVE_SECONDS)


def _versions() -> dict[str, str]:
    """What must be the same on all hosts for their numbers to be."""
    return {name: version(name) for name in ("corridor", "torch")}


class _Board:
    """How far the runs are, on one host for all of them."""

    def __init__(self) -> None:
        self._news: dict[int, float] = {}

    def tell(self, index: int, fraction: float) -> None:
        self._news[index] = fraction

    def take(self) -> dict[int, float]:
        news, self._news = self._news, {}
        return news


def _task(job: Job, index: int, board: Any, versions: dict[str, str]) -> None:
    """The life of a task, in a worker."""
    import torch

    if versions != _versions():
        raise RuntimeError(
            f"{os.uname().nodename} has {_versions()}, and the sweep was started with {versions}; "
            "install the same versions on all hosts"
        )
    forget_launcher()
    torch.set_num_threads(1)
    report: Callable[[Any], None] = lambda value: board.tell.remote(index, value)  # noqa: E731
    try:
        run_job(job, report)
    except Interrupted as stop:
        if stop.number == signal.SIGTERM:
            raise StoppedError(str(stop)) from None
        raise

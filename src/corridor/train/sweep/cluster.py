"""Run the runs of a sweep as tasks on a Ray cluster; no other file imports ray."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any

from corridor._extras import reason, required
from corridor.train.processes import Interrupted, forget_launcher
from corridor.train.sweep.pool import Ends, Job, Report, run_job

ANSWER_SECONDS = 15.0
SAVE_SECONDS = 60.0
POLL_SECONDS = 0.5


class StoppedError(RuntimeError):
    """Report that a worker had to stop, as when its host shuts down; another worker continues."""


def run_on_cluster(
    jobs: Sequence[Job], *, report: Report, address: str | None, gpus: float | None, retries: int
) -> Ends:
    """Run jobs on a cluster (None: this machine's cluster, ``local``: a new one)."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with required("ray", extra="sweeps"):
        ray: Any = import_module("ray")
    joined_before = ray.is_initialized()
    if not joined_before:
        _join(ray, address)
    running = {}
    try:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        largest = max((node.get("GPU", 0.0) for node in alive), default=0.0)
        if gpus is not None and gpus > largest:
            raise ValueError(
                f"gpus_per_run must be at most {largest:g}, the GPUs of the cluster's largest "
                f"node, got {gpus:g}; give a smaller --gpus-per-run"
            )
        gpus = min(1.0, largest) if gpus is None else gpus
        here = ray.get_runtime_context().get_node_id()
        near = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=True)
        kept = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": near}
        board = ray.remote(**kept)(_Board).remote()
        task = ray.remote(max_retries=retries, retry_exceptions=[StoppedError], num_cpus=1)(_task)
        for index, job in enumerate(jobs):
            placed = task.options(num_gpus=0 if job.config.device == "cpu" else gpus)
            running[placed.remote(job, index, board, _versions())] = index
        while running:
            ready, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            with suppress(ray.exceptions.RayError):  # missing progress must not end a sweep
                for news in ray.get(board.take.remote(), timeout=POLL_SECONDS).items():
                    report(*news)
            for ref in ready:
                yield running.pop(ref), _error(ray, ref, retries)
    finally:
        if running and ray.is_initialized():  # let the remaining tasks save and end
            for ref in running:
                ray.cancel(ref, force=False)
            with suppress(Exception):
                ray.wait(list(running), num_returns=len(running), timeout=SAVE_SECONDS)
        if not joined_before:
            ray.shutdown()


def _join(ray: Any, address: str | None) -> None:
    if address != "local":
        _check_answer(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "auto",
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=False if address == "local" else None,
        )
    except Exception as error:
        raise ConnectionError(f"{_where(address)} cannot be joined: {reason(error)}") from error
    finally:
        with suppress(ValueError):  # not the main thread, in which Ray installs no handler either
            signal.signal(signal.SIGTERM, on_sigterm)


def _check_answer(address: str | None) -> None:
    """Raise ConnectionError unless the head answers; `ray.init` would wait and end this process."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    command += ["--address", address] if address else []
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, check=False)
        if done.returncode == 0:
            return
    raise ConnectionError(
        f"{_where(address)} does not answer; start it with: ray start --head (and on other "
        "hosts: ray start --address HOST:PORT), or give --address, or --engine local"
    )


def _where(address: str | None) -> str:
    address = address or os.environ.get("RAY_ADDRESS")
    return f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"


def _error(ray: Any, ref: Any, retries: int) -> str:
    """Return the error message of a task, or an empty string."""
    try:
        ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        return reason(error.cause)
    except ray.exceptions.RayError as error:
        first, *_ = str(error).strip().splitlines() or [""]
        return f"its worker was lost {retries + 1} times ({type(error).__name__}: {first})"
    return ""


def _versions() -> dict[str, str]:
    """Return the versions that must agree on all hosts for equal numbers."""
    return {name: version(name) for name in ("corridor", "torch")}


class _Board:
    """Collect the progress of all runs in one actor."""

    def __init__(self) -> None:
        self._news: dict[int, float] = {}

    def put(self, index: int, part: float) -> None:
        self._news[index] = part

    def take(self) -> dict[int, float]:
        news, self._news = self._news, {}
        return news


def _task(job: Job, index: int, board: Any, versions: dict[str, str]) -> None:
    if versions != _versions():
        raise RuntimeError(
            f"{os.uname().nodename} has {_versions()}, and the sweep was started with {versions}; "
            "install the same versions on all hosts"
        )
    forget_launcher()
    try:
        run_job(job, partial(board.put.remote, index))
    except Interrupted as stop:
        if stop.number == signal.SIGTERM:
            raise StoppedError(str(stop)) from None
        raise

"""Train many configs, each in its own run folder; skip runs that have ended."""

import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path

from rich.console import Console

from corridor.train.config import Config
from corridor.train.folder import record
from corridor.train.folder.files import HELD_SECONDS, locked, made, wait_until_free
from corridor.train.folder.progress import Overview
from corridor.train.folder.record import Summary
from corridor.train.processes import Interrupted, listening
from corridor.train.sweep.pool import TRACEBACK, Job, Runner, in_this_process, run_job, run_jobs

POOLS = ("serial", "local", "ray")
RETRIES = 3


@dataclass(frozen=True)
class Run:
    """Name one run of a sweep.

    Attributes:
        name: Name of its folder inside the folder of the sweep.
        config: What to train and how.
    """

    name: str
    config: Config


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Choose where the runs of a sweep are trained.

    Attributes:
        pool: ``serial`` trains one run after the other in this process. ``local`` uses worker
            processes on this machine with one torch thread each. ``ray`` uses tasks on a Ray
            cluster with one core each. (default: ``local``)
        processes: Number of runs at a time, for ``local`` (default: the usable cores).
        address: ``HOST:PORT`` of the cluster's head, for ``ray`` (default: the cluster that this
            machine belongs to). The address ``local`` starts a cluster here for this sweep.
        gpus_per_run: Number of GPUs per run, or a fraction of one, for ``ray`` (default: 1 if the
            cluster has any and the config can use it).
        retries: Number of further tries of a run whose worker was lost, for ``ray`` (default: 3).

    Raises:
        ValueError: A value is out of range, or belongs to another pool.

    Example:
        >>> Workers(pool="ray", gpus_per_run=0.25).gpus_per_run
        0.25
    """

    pool: str = "local"
    processes: int | None = None
    address: str | None = None
    gpus_per_run: float | None = None
    retries: int | None = None

    def __post_init__(self) -> None:
        if self.pool == "batched":
            raise ValueError("pool 'batched' was removed in 0.2.0; use 'local'")
        if self.pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {self.pool!r}")
        rows = ("processes", "local", 1), ("retries", "ray", 0), ("gpus_per_run", "ray", 0)
        for name, pool, least in (*rows, ("address", "ray", None)):
            value = getattr(self, name)
            if value is not None and self.pool != pool:
                raise ValueError(
                    f"{name} must be None for {self.pool}, got {value}; use pool {pool}"
                )
            if value is not None and least is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        gpus = self.gpus_per_run
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus_per_run must be a whole number or less than 1, got {gpus}")

    def start(self) -> Runner:
        """Return the function that trains the runs."""
        if self.pool == "ray":
            from corridor.train.sweep.cluster import run_on_cluster

            retries = RETRIES if self.retries is None else self.retries
            return partial(
                run_on_cluster, address=self.address, gpus=self.gpus_per_run, retries=retries
            )
        if self.pool == "serial":
            return in_this_process
        return partial(run_jobs, run_job, processes=self.processes or record.usable_cores())


def sweep(
    runs: Sequence[Run],
    out: str | Path,
    *,
    processes: int | Workers | None = None,
    progress: bool = True,
) -> list[Path]:
    """Train many configs, several at a time.

    A run that has ended (finished or diverged) with its config is skipped. An interrupted or
    failed run continues from its newest checkpoint. A run that raises, or whose worker dies too
    often, gets the status ``failed`` and a message in summary.json, and the other runs continue.
    Its folder gets the file traceback.txt. The folders and the numbers are equal
    in all pools. The numbers equal the numbers of ``train`` with one torch thread.

    Args:
        runs: Names and configs; the names must differ.
        out: Folder of the run folders.
        processes: Number of runs at a time on this machine, or ``Workers`` for another pool
            (default: the usable cores).
        progress: Show progress on stderr (default: True).

    Returns:
        The run folders, in the order of ``runs``.

    Raises:
        ValueError: A name is repeated or not a folder name, a folder holds another config, data are
            wrong, or the workers cannot take the runs. No run was started.
        OSError: Data are missing, the folder cannot be written, another sweep writes to it, or the
            workers are not available. No run was started.
        Interrupted: Ctrl-C or SIGTERM came, and the current runs were saved.

    Example:
        ``sweep([Run("a", Config(seed=0)), Run("b", Config(seed=1))], "runs")`` returns
        ``[Path("runs/a"), Path("runs/b")]``. New processes import the main script: call ``sweep``
        under ``if __name__ == "__main__":``.
    """
    out = Path(out)
    workers = processes if isinstance(processes, Workers) else Workers(processes=processes)
    folders = [out / name for name in _names(runs)]
    if record.read_config(out) is not None:
        raise ValueError(f"out must be a folder of runs, got the run {out}; give a new folder")
    todo = [i for i, run in enumerate(runs) if record.ended(folders[i], run.config) is None]
    check_data(runs, out, workers)
    made(out)
    jobs = [Job(runs[i].config, folders[i].absolute()) for i in todo]
    console = Console(stderr=True, quiet=not progress)
    show = Overview([runs[i].name for i in todo], len(runs) - len(todo), console)
    with locked(out), show, listening(at_once=True) as flag:
        try:
            if jobs:
                _train(jobs, workers.start(), show)
        except KeyboardInterrupt as stop:
            number = flag.number or getattr(stop, "number", signal.SIGINT)
            raise Interrupted(f"stopped; repeat the sweep into {out} to continue", number) from None
    return folders


def check_data(runs: Sequence[Run], out: Path, workers: Workers) -> None:
    """Load the data of all runs that have not ended; the runs find decoded images in the cache."""
    if workers.pool == "ray":  # its hosts can have data that this machine does not have
        return
    configs = [run.config for run in runs if record.ended(out / run.name, run.config) is None]
    for data, folder, size in dict.fromkeys((c.data, c.data_dir, c.image_size) for c in configs):
        from corridor.data import load  # a sweep that has ended needs no torch

        load(data, data_dir=folder, image_size=size)


def _train(jobs: Sequence[Job], runner: Runner, show: Overview) -> None:
    with closing(runner(jobs, report=show.update)) as news:
        for index, error in news:
            folder = jobs[index].folder
            if error and (folder / TRACEBACK).exists():
                error += f"; see {TRACEBACK} in its folder"
            summary = record.read_summary(folder)
            if not error and (summary is None or summary.status == "failed"):
                error = f"left no summary in {folder}; use a folder that all hosts share"
            if error and wait_until_free(folder, HELD_SECONDS):  # else another process trains it
                record.write_failure(folder, jobs[index].config, error)
            show.ended(index, f"{folder.name}: {_result(record.read_summary(folder))}")


def _names(runs: Sequence[Run]) -> list[str]:
    names = [run.name for run in runs]
    for name, count in Counter(names).items():
        if not name or Path(name).name != name or name.startswith("."):
            raise ValueError(f"name must be a plain folder name, got {name!r}; rename the run")
        if count > 1:
            raise ValueError(f"names of runs must differ, got {name} {count} times; rename a run")
    return names


def _result(summary: Summary | None) -> str:
    if summary is None:
        return "ended without a summary"
    if summary.status == "failed":
        return f"failed: {summary.message}"
    accuracy = summary.final_test_accuracy
    test = "" if accuracy is None else f", test accuracy {accuracy:.2%}"
    loss = nan if summary.final_loss is None else summary.final_loss
    return f"{summary.status} after {summary.steps} steps, loss {loss:.3g}{test}"

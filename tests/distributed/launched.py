"""Real processes of a run, with torchrun above them or without, to be hurt."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.distributed.ranks import _free_port
from tests.train.processes import environment

PATIENCE = 90.0
TRAIN = ("train", "--data", "digits", "--no-progress")


def options(**values: object) -> list[str]:
    """Options of ``corridor train``."""
    return [w for k, v in values.items() for w in (f"--{k.replace('_', '-')}", str(v))]


class Agent:
    """``torchrun`` with its workers.

    Args:
        out: The run folder; what is said goes to a file beside it.
        name: Of that file.
        launcher: torchrun's options.
        train: Those of ``corridor train``.
    """

    def __init__(self, out: Path, name: str, launcher: Sequence[str], train: Sequence[str]) -> None:
        self.out, self.log = out, out.with_name(f"{out.name}.{name}.log")
        run = [sys.executable, "-m", "torch.distributed.run", *launcher]
        command = [*run, "-m", "corridor", *TRAIN, *train, "--out", str(out)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment(), start_new_session=True
            )

    def workers(self) -> dict[int, int]:
        """Process numbers by rank."""
        parent = str(self.process.pid)
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                values = (folder / "environ").read_bytes()
                rank = re.search(rb"(?:^|\0)RANK=(\d+)", values)
                if fields[1] == parent and fields[0] != "Z" and rank:
                    found[int(rank[1])] = int(folder.name)
        return found

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.kill()

    def said(self) -> list[str]:
        """The lines of corridor's own."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if line.startswith("corridor: ")]

    def kill(self) -> None:
        """End it and its workers, as a host that loses power."""
        numbers = [*self.workers().values(), self.process.pid]
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()


class Pair:
    """Two ranks without a launcher, which have torch imported already."""

    def __init__(self, out: Path, train: Sequence[str]) -> None:
        self.out = out
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["corridor.train.loop", "sklearn.datasets"])
        port = _free_port()
        self.logs = [out.with_name(f"{out.name}.{rank}.log") for rank in range(2)]
        words = [*TRAIN, *train, "--out", str(out)]
        self.processes = [
            context.Process(target=_rank, args=(rank, port, words, str(log)))
            for rank, log in enumerate(self.logs)
        ]
        for process in self.processes:
            process.start()

    def signal(self, rank: int, number: int) -> None:
        """Send a signal to one of them."""
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def ended(self, rank: int) -> int | None:
        """The exit status of one of them, once it has ended."""
        self.processes[rank].join(PATIENCE)
        return self.processes[rank].exitcode

    def said(self) -> list[str]:
        """The lines of both."""
        return [line for log in self.logs for line in log.read_text().splitlines()]

    def kill(self) -> None:
        """End both."""
        for process in self.processes:
            process.kill()
            process.join()


def _rank(rank: int, port: int, words: list[str], log: str) -> None:
    import torch

    from corridor.cli import main

    torch.set_num_threads(1)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    with Path(log).open("w", buffering=1) as file:
        sys.stdout = sys.stderr = file
        status = main(words)
    os._exit(status)


def newest_step(out: Path) -> int:
    """That of the newest checkpoint; 0 without one."""
    return max((int(p.name[5:14]) for p in (out / "checkpoints").glob("step-*")), default=0)


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


def free_port() -> int:
    """A port nobody listens on."""
    return _free_port()

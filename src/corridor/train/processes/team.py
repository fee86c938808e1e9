"""Connect the processes of one run, which agree and end together; one of them prints errors."""

import gc
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from corridor import _torch
from corridor.train.processes import ElsewhereError, launched, listening

# Seconds for other ranks to report that they wait too; a rank that does not is lost.
GRACE = 3.0
CPU = torch.device("cpu")

T = TypeVar("T")


@dataclass
class Team:
    """Hold the processes that train one network together; by default this process alone."""

    rank: int = 0
    world: int = 1
    timeout: float = math.inf
    device: torch.device = CPU
    doing: str = "the start"  # for the message when another process is lost
    name: str = ""  # of this run, because the process group may have trained others
    reported: bool = False  # True when the other ranks were informed that this rank failed

    @property
    def first(self) -> bool:
        """True for the process that writes and prints."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Return the value of every rank, in the order of the ranks."""
        if self.world == 1:
            return [value]
        # The values travel as pickles, which is safe between the processes of one run only.
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def largest(self, *values: int) -> list[int]:
        """Return the largest value over all ranks, for each argument."""
        return [max(column) for column in zip(*self.gather(values), strict=True)]

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks."""
        found = tensor.detach().clone()
        if self.world > 1:
            dist.all_reduce(found)
        return found

    def together(self, act: Callable[[], T]) -> T:
        """Return a function's value if all ranks succeed; else raise an error on every rank."""
        caught, found = None, None
        try:
            found = act()
        except (ValueError, OSError, ImportError) as error:
            caught = error
        failed = [rank for rank, bad in enumerate(self.gather(caught is not None)) if bad]
        if not failed:
            return found  # pyright: ignore[reportReturnType]
        self.reported = True  # by the gather above, so that no rank waits for this one
        if failed[0] == self.rank and caught is not None:
            raise caught
        raise ElsewhereError(f"rank {failed[0]} failed")

    def require_equal(self, facts: dict[str, Any]) -> None:
        """Raise a ValueError on rank 0 if a fact differs between ranks."""
        everyone = self.gather(facts)
        for rank, theirs in enumerate(everyone):
            for name, first in everyone[0].items():
                if theirs[name] != first:
                    self.refuse(
                        f"rank 0 has {name} {first} and rank {rank} has {theirs[name]}; "
                        "start all processes with the same command and data"
                    )

    def refuse(self, message: str) -> NoReturn:
        """Raise a ValueError on rank 0 and ElsewhereError on the others; all ranks call this."""
        raise ValueError(message) if self.first else ElsewhereError("rank 0 reports the error")

    def of_first(self, act: Callable[[], T]) -> T:
        """Call a function on rank 0, and return its value or raise its error on every rank."""
        found = self.together(lambda: act() if self.first else None)
        return self.gather(found)[0]

    def lost(self, error: Exception) -> Exception:
        """Return the error to raise after a failed collective: one rank names the lost ranks."""
        reason = " ".join(str(error).split())
        try:
            silent = self._silent()
        except RuntimeError:  # the store ended with the process that held it
            return ConnectionError(f"another process is gone at {self.doing} ({reason})")
        if silent is None or self.rank != min({*range(self.world)} - {*silent}):
            return ElsewhereError("another rank reports the error")
        if not silent:
            return ConnectionError(f"the processes lost each other at {self.doing} ({reason})")
        ranks = ("rank " if len(silent) == 1 else "ranks ") + ", ".join(map(str, silent))
        what = f"is gone at {self.doing}"
        if "timed out" in reason.lower():
            what = f"did not reach {self.doing} within {self.timeout:g} s"
        return ConnectionError(f"{ranks} {what}; rank {self.rank} gives up")

    def _silent(self) -> list[int] | None:
        """Return the ranks that do not report that they wait; None if a rank reported its error."""
        store = self._report("waits")
        others = silent = [rank for rank in range(self.world) if rank != self.rank]
        end = time.monotonic() + GRACE
        with listening() as flag:  # a launcher may send SIGTERM in this time
            while silent and time.monotonic() < end and not flag.number:
                if any(store.check([f"{self.name}/failed/{rank}"]) for rank in others):
                    return None
                silent = [r for r in silent if not store.check([f"{self.name}/waits/{r}"])]
                time.sleep(0.02)
        return silent

    def report(self) -> None:
        """Report the failure of this rank, which raises its own error, to the waiting ranks."""
        if self.world > 1 and not self.reported:
            with suppress(RuntimeError):  # no rank is left
                self._report("failed")

    def _report(self, what: str) -> Any:
        """Write what this rank does to the store of all ranks, and return the store."""
        store = _torch.default_store()
        store.set_timeout(timedelta(seconds=GRACE))
        store.set(f"{self.name}/{what}/{self.rank}", "")
        return store


def place(name: str) -> torch.device:
    """Return the device of this process; ``cuda`` is the GPU of its local rank under a launcher."""
    count = torch.cuda.device_count()
    kind = ("cuda" if count else "cpu") if name == "auto" else name
    device = torch.device(kind)
    if launched() and kind == "cuda":
        local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
        if local >= count:
            raise ValueError(
                f"device must be cpu or one GPU per process, got process {local} of this host and "
                f"{count} GPUs; process {local} has no GPU, start fewer processes"
            )
        device = torch.device("cuda", local)
    elif device.type == "cuda" and launched() and os.environ["WORLD_SIZE"] != "1":
        raise ValueError(f"device must differ between processes, got {name} for all; use cuda")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(
            f"device must be one of {count} CUDA devices that torch finds, got {name}; use cpu"
        )
    return device


@contextmanager
def joined(device: str, timeout: float) -> Iterator[Team]:
    """Join the processes of a launcher, or of the current process group, and yield the team."""
    found = dist.is_available() and dist.is_initialized()
    if not found and not launched():
        yield Team(device=place(device))
        return
    if not found:
        _meet(device, timeout)
    team = Team(dist.get_rank(), dist.get_world_size(), timeout)
    backends = dist.get_backend_config()
    if team.world > 1 and "cpu:" not in backends:
        team.refuse(
            f"the current process group must have a backend for the CPU, got {backends}; "
            'initialize it with init_process_group("cpu:gloo,cuda:nccl")'
        )
    try:
        team.name = team.gather(os.urandom(8).hex())[0]
        team.device = team.together(lambda: place(device))
        if team.device.type == "cuda":
            torch.cuda.set_device(team.device)
        with warnings.catch_warnings():
            if not team.first:
                warnings.simplefilter("ignore")
            yield team
    except ElsewhereError:
        raise
    except Exception as error:
        # The errors of gloo have no class of their own.
        broken = isinstance(error, dist.DistError) or "gloo" in str(error)
        if team.world > 1 and isinstance(error, RuntimeError) and broken:
            raise team.lost(error) from None
        team.report()
        raise
    if not found:
        gc.collect()  # a network that outlives its group keeps the process from ending
        dist.destroy_process_group()


def _meet(device: str, timeout: float) -> None:
    gpu = device != "cpu" and torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    missing = not dist.is_available() or not dist.is_gloo_available()
    if missing or (gpu and not dist.is_nccl_available()):
        raise ValueError(
            f"torch must have the backend {backend} for several processes, got none; "
            "install such a torch, or train in one process"
        )
    patience = timedelta(seconds=timeout)
    try:
        store, rank, world = next(rendezvous("env://", timeout=patience))
        fresh = PrefixStore(_agree(store, rank, world, timeout), store)
        dist.init_process_group(backend, timeout=patience, store=fresh, rank=rank, world_size=world)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ConnectionError(f"the processes could not connect ({reason})") from error


def _agree(store: Any, rank: int, world: int, timeout: float) -> str:
    """Return a new name for this process group, equal on all ranks."""
    # torchrun keeps its store, with the addresses of ended processes, when it restarts processes.
    own = os.urandom(8).hex()
    if rank:
        store.set(f"ask/{rank}", own)
        name = store.get(f"answer/{own}").decode()
        store.set(f"{name}/heard/{rank}", "")
        return name
    end = time.monotonic() + timeout
    absent = list(range(1, world))
    while absent:  # each rank asks under its own key, until it confirms an answer
        if time.monotonic() > end:
            raise ConnectionError(f"rank {absent[0]} did not connect within {timeout:g} s")
        for other in absent:
            if store.check([f"ask/{other}"]):  # a restarted rank may ask again
                store.set(f"answer/{store.get(f'ask/{other}').decode()}", own)
        absent = [r for r in absent if not store.check([f"{own}/heard/{r}"])]
        time.sleep(0.01)
    return own

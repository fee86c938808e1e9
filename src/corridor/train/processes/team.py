"""The processes of one run: how they meet, agree, and end together.

Each launched by ``torchrun`` finds in its environment who it is. What one of them cannot do, all
give up, and one says why.
"""

import gc
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from corridor.train.processes.launch import launched
from corridor.train.processes.signals import ElsewhereError, listening

# So long a process waits for others to say that they wait, too, before it calls them lost.
GRACE = 3.0
CPU = torch.device("cpu")

T = TypeVar("T")


class Team:
    """The processes that train one network together; alone, all is this process's own.

    Args:
        rank: Number of this process, from 0.
        world: How many there are.
        timeout: Seconds to wait for another process.
        device: Where this one computes.

    Attributes:
        doing: What this process is at, for the message when another one is lost.
    """

    def __init__(
        self,
        rank: int = 0,
        world: int = 1,
        timeout: float = math.inf,
        device: torch.device = CPU,
    ) -> None:
        self.rank, self.world, self.timeout, self.device = rank, world, timeout, device
        self.doing = "the start"
        self.told = False
        self.name = ""

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def meet(self) -> None:
        """Agree on a name for this run of the group, which may have had others."""
        self.name = self.gather(os.urandom(8).hex())[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the value of every rank, in the order of the ranks."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def largest(self, *values: int) -> list[int]:
        """The largest over all ranks of each number."""
        if self.world == 1:
            return list(values)
        found = torch.tensor(values)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.tolist()

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all ranks."""
        if self.world == 1:
            return tensor
        found = tensor.detach().clone()
        dist.all_reduce(found)
        return found

    def together(self, act: Callable[[], T]) -> T:
        """What ``act`` returns, once it succeeded on every rank.

        Raises:
            ValueError, OSError, ImportError: What it raised here, if no lower rank failed.
            ElsewhereError: It failed on another rank, which says why.
        """
        if self.world == 1:
            return act()
        caught, found = None, None
        try:
            found = act()
        except (ValueError, OSError, ImportError) as error:
            caught = error
        failed = [rank for rank, bad in enumerate(self.gather(caught is not None)) if bad]
        if not failed:
            return found  # pyright: ignore[reportReturnType]
        self.told = True
        if failed[0] == self.rank and caught is not None:
            raise caught
        raise ElsewhereError(f"rank {failed[0]} failed")

    def check_alike(self, facts: dict[str, Any]) -> None:
        """Raise on one rank a ValueError that names the first fact in which ranks differ.

        Args:
            facts: JSON values by what they are called.
        """
        everyone = self.gather(facts)

        def compare() -> None:
            for name, mine in everyone[0].items():
                for rank, other in enumerate(everyone):
                    if other[name] != mine and self.first:
                        raise ValueError(
                            f"rank 0 has {name} {mine} and rank {rank} has {other[name]}; "
                            "start all processes with the same command and data"
                        )

        self.together(compare)

    def lost(self, error: Exception) -> Exception:
        """What to raise here for a collective that failed."""
        reason = " ".join(str(error).split())
        try:
            silent = self._silent()
        except RuntimeError:  # the store went with the process that held it
            return ConnectionError(f"another process is gone at {self.doing} ({reason})")
        if silent is None or self.rank != min({*range(self.world)} - {*silent}):
            return ElsewhereError("another rank tells")
        if not silent:
            return ConnectionError(f"the processes lost each other at {self.doing} ({reason})")
        names = f"rank {silent[0]}" if len(silent) == 1 else f"ranks {', '.join(map(str, silent))}"
        waited = "timed out" in reason.lower()
        how = f"did not come to {self.doing} within {self.timeout:g} s" if waited else "is gone"
        at = "" if waited else f" at {self.doing}"
        return ConnectionError(f"{names} {how}{at}; rank {self.rank} gives up")

    def _silent(self) -> list[int] | None:
        """The ranks that do not say that they wait, too; None if one has failed and told why."""
        store = dist.distributed_c10d._get_default_store()
        store.set_timeout(timedelta(seconds=GRACE))
        store.set(f"{self.name}/waits/{self.rank}", "")
        others = [rank for rank in range(self.world) if rank != self.rank]
        end = time.monotonic() + GRACE
        silent = others
        with listening() as flag:  # a launcher that is about to end this process may hurry it
            while silent and time.monotonic() < end and not flag.number:
                if any(store.check([f"{self.name}/failed/{rank}"]) for rank in others):
                    return None
                silent = [r for r in silent if not store.check([f"{self.name}/waits/{r}"])]
                time.sleep(0.02)
        return silent

    def leave_word(self) -> None:
        """Tell ranks that still wait for this one that it failed, and has said why."""
        if self.world > 1 and not self.told:
            store = dist.distributed_c10d._get_default_store()
            store.set_timeout(timedelta(seconds=GRACE))
            with suppress(RuntimeError):  # nobody is left to be told
                store.set(f"{self.name}/failed/{self.rank}", "")


def place(name: str) -> torch.device:
    """The device of a config in this process, auto being a GPU if there is one.

    Raises:
        ValueError: It is not there.
    """
    count = torch.cuda.device_count()
    kind = ("cuda" if count else "cpu") if name == "auto" else name
    if launched() and kind == "cuda":
        local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
        if local >= count:
            raise ValueError(
                f"process {local} of this host has no GPU of its own, torch sees {count}; "
                "start fewer, or use device cpu"
            )
        return torch.device("cuda", local)
    device = torch.device(kind)
    if device.type == "cuda" and launched() and os.environ["WORLD_SIZE"] != "1":
        raise ValueError(f"device {name} would be shared by all processes; use cuda")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(
            f"device {name} is not there: torch sees {count} CUDA devices; use cpu or auto"
        )
    return device


@contextmanager
def joined(device: str, timeout: float) -> Iterator[Team]:
    """The team this process belongs to: that of its launcher or of a process group at hand.

    Args:
        device: Name of where to compute; it decides on NCCL or gloo.
        timeout: Seconds to wait for another process before giving up.

    Raises:
        ValueError: The device is not there, torch has no backend for it, or the process group at
            hand has none for the CPU.
        ConnectionError: Another process was lost; raised on the lowest rank that is left.
        ElsewhereError: Another process failed, and says why.
    """
    here = dist.is_available() and dist.is_initialized()
    if not here and not launched():
        yield Team(device=place(device))
        return
    if not here:
        _meet(device, timeout)
    team = Team(dist.get_rank(), dist.get_world_size(), timeout)
    _check_backend(team)
    try:
        team.meet()
        team.device = team.together(lambda: place(device))
        if team.device.type == "cuda":
            torch.cuda.set_device(team.device)
        with warnings.catch_warnings():
            if not team.first:
                warnings.simplefilter("ignore")
            yield team
    except ElsewhereError:
        raise
    except RuntimeError as error:
        if team.world == 1 or not _broken(error):
            team.leave_word()
            raise
        raise team.lost(error) from None
    except Exception:
        team.leave_word()
        raise
    if not here:
        gc.collect()  # a network that outlives its group keeps the process from ending
        dist.destroy_process_group()


def _check_backend(team: Team) -> None:
    """Raise a ValueError, on one rank, unless the group can carry what the ranks say."""
    backends = dist.get_backend_config()
    if team.world == 1 or "cpu:" in backends:
        return
    if not team.first:
        raise ElsewhereError("rank 0 tells")
    raise ValueError(
        f"the process group at hand has no backend for the CPU, only {backends}; initialise it "
        'with init_process_group("cpu:gloo,cuda:nccl")'
    )


def _meet(device: str, timeout: float) -> None:
    gpu = device != "cpu" and torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    missing = not dist.is_available() or not dist.is_gloo_available()
    if missing or (gpu and not dist.is_nccl_available()):
        raise ValueError(
            f"this torch lacks a backend of {backend}, by which processes talk to each other; "
            "install one that has it, or train in one process"
        )
    patience = timedelta(seconds=timeout)
    try:
        store, rank, world = next(rendezvous("env://", timeout=patience))
        fresh = PrefixStore(_greeted(store, rank, world, timeout), store)
        dist.init_process_group(backend, timeout=patience, store=fresh, rank=rank, world_size=world)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ConnectionError(f"the processes did not meet ({reason})") from error


def _greeted(store: Any, rank: int, world: int, timeout: float) -> str:
    """A name for this meeting that all ranks know and none before it had.

    torchrun keeps its store when it starts workers again, with the addresses of the dead in it. So
    each rank asks with a word of its own, and rank 0 answers until each has said that it heard.
    """
    own = os.urandom(8).hex()
    if rank:
        store.set(f"ask/{rank}", own)
        name = store.get(f"answer/{own}").decode()
        store.set(f"{name}/heard/{rank}", "")
        return name
    answered: dict[int, bytes] = {}
    end = time.monotonic() + timeout
    absent = list(range(1, world))
    while absent:
        if time.monotonic() > end:
            raise ConnectionError(f"rank {absent[0]} did not come within {timeout:g} s")
        for other in absent:
            if not store.check([f"ask/{other}"]):
                continue
            word = store.get(f"ask/{other}")
            if answered.get(other) != word:
                answered[other] = word
                store.set(f"answer/{word.decode()}", own)
        absent = [r for r in absent if not store.check([f"{own}/heard/{r}"])]
        time.sleep(0.01)
    return own


def _broken(error: RuntimeError) -> bool:
    """Whether an error is that of a connection; gloo's have no class of their own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)

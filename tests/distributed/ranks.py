"""Processes that stay up between tests: each job forms a process group of its own."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WORKERS = 4
PATIENCE = 120


class Ranks:
    """Worker processes that run a function as the ranks of a gloo group.

    Importing torch is most of what a process costs, so that the same ones serve all tests.
    """

    def __init__(self) -> None:
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["corridor.train.loop", "sklearn.datasets"])
        self.inboxes = [context.Queue() for _ in range(WORKERS)]
        self.outbox = context.Queue()
        self.workers = [
            context.Process(target=_serve, args=(k, self.inboxes[k], self.outbox), daemon=True)
            for k in range(WORKERS)
        ]
        for worker in self.workers:
            worker.start()

    def run(self, world: int, job: Callable[..., Any], *args: Any) -> list[Any]:
        """What ``job(*args)`` returns on each of the ranks of a group of so many."""
        port = _free_port()
        for inbox in self.inboxes[:world]:
            inbox.put((world, port, job, args))
        answers = dict(self.outbox.get(timeout=PATIENCE) for _ in range(world))
        failed = {k: text for k, (text, _) in answers.items() if text}
        assert not failed, "\n".join(f"rank {k}: {text}" for k, text in failed.items())
        return [answers[k][1] for k in range(world)]

    def close(self) -> None:
        """End the processes."""
        for inbox in self.inboxes:
            inbox.put(None)
        for worker in self.workers:
            worker.join(10)
            worker.kill()


def _serve(rank: int, inbox: Any, outbox: Any) -> None:
    torch.set_num_threads(1)
    while (order := inbox.get()) is not None:
        world, port, job, args = order
        try:
            dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
            outbox.put((rank, ("", job(*args))))
        except Exception:
            outbox.put((rank, (traceback.format_exc(), None)))
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

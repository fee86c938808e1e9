"""Train one network with several processes: their launcher, found without torch, and signals."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched() -> bool:
    """Return True if a launcher started this process as one of several."""
    return all(name in os.environ for name in VARIABLES)


def restarted() -> bool:
    """Return True if torchrun started this process in place of a failed one."""
    return launched() and _elastic("RESTART_COUNT") > 0


def restarts_left() -> bool:
    """Return True if torchrun would start all processes again after a status other than 0."""
    return launched() and _elastic("RESTART_COUNT") < _elastic("MAX_RESTARTS")


def prints() -> bool:
    """Return True on rank 0, the process that prints."""
    return not launched() or os.environ["RANK"] == "0"


def forget_launcher() -> None:
    """Remove a launcher's variables, so that a run in this process joins no other process."""
    for name in VARIABLES:
        os.environ.pop(name, None)


def _elastic(name: str) -> int:
    return int(os.environ.get(f"TORCHELASTIC_{name}", "0"))


class Interrupted(KeyboardInterrupt):
    """Report a run stopped on request, with a checkpoint; the message explains how to continue."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


class ElsewhereError(Exception):
    """Report that another process of this run failed, which prints the error itself."""


class StopFlag:
    """Hold the request to stop: the number of the signal, 0 if there was none."""

    number = 0

    def store(self, number: int, frame: FrameType | None) -> None:
        """Store the signal; a second SIGINT raises KeyboardInterrupt at once."""
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Store the signal, and raise KeyboardInterrupt at once."""
        self.number = number
        raise KeyboardInterrupt


@contextmanager
def listening(*, at_once: bool = False) -> Iterator[StopFlag]:
    """Store SIGINT and SIGTERM in a flag, unless ignored; `at_once` raises on SIGTERM instead."""
    flag, before = StopFlag(), {}
    handler = flag.interrupt if at_once else flag.store
    numbers = (signal.SIGTERM,) if at_once else (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is threading.main_thread():  # Python allows no other thread
        for number in numbers:
            # A shell's background job ignores SIGINT, so that Ctrl-C stops the foreground job only.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield flag
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)

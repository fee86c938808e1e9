"""Turn SIGINT and SIGTERM into a request to stop after the current step."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any


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


def listening() -> AbstractContextManager[StopFlag]:
    """Store SIGINT and SIGTERM in a flag during the block, unless the process ignores them."""
    flag = StopFlag()
    return _handling(flag, flag.store, signal.SIGINT, signal.SIGTERM)


def terminable() -> AbstractContextManager[StopFlag]:
    """Raise KeyboardInterrupt on SIGTERM during the block, and store the signal in a flag."""
    flag = StopFlag()
    return _handling(flag, flag.interrupt, signal.SIGTERM)


@contextmanager
def _handling(flag: StopFlag, handler: Callable[..., Any], *numbers: int) -> Iterator[StopFlag]:
    before = {}
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

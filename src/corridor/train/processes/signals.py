"""Ctrl-C and SIGTERM, turned into a wish to stop after the step at hand."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and has written a checkpoint; the message says how to go on.

    Attributes:
        number: The signal that asked.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


class ElsewhereError(Exception):
    """Another process of this run failed; it tells why, and this one ends in silence."""


class StopFlag:
    """Whether a signal came.

    Attributes:
        number: The signal's number; 0 while none has come.
    """

    number = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; a second Ctrl-C does not wait, and SIGTERM may come twice."""
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def listening() -> Iterator[StopFlag]:
    """Catch SIGINT and SIGTERM for a while.

    A signal that the process ignores stays ignored, and outside the main thread, where Python
    allows no handlers, nothing is caught.
    """
    flag = StopFlag()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, flag.handle)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminable() -> Iterator[StopFlag]:
    """SIGTERM, if it comes, noted and raised as a KeyboardInterrupt.

    Like `listening`, only in the main thread, and not where the signal is ignored.
    """
    flag = StopFlag()

    def handle(number: int, frame: FrameType | None) -> None:
        flag.number = number
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    mine = threading.current_thread() is threading.main_thread()
    if not mine or before is signal.SIG_IGN:
        yield flag
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGTERM, before)

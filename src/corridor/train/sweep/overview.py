"""How far all runs of a sweep are, together: bars on a terminal, lines elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

# Bars of single runs on a terminal, and seconds between lines elsewhere when no run ends.
BARS = 8
LINE_SECONDS = 60.0


class Overview(Protocol):
    """What a sweep tells while it runs."""

    def update(self, index: int, fraction: float) -> None:
        """So much of a run is done."""

    def ended(self, index: int, line: str) -> None:
        """A run has ended; the line says how."""


class Nothing:
    """Shows nothing."""

    def update(self, index: int, fraction: float) -> None:
        """Nothing."""

    def ended(self, index: int, line: str) -> None:
        """Nothing."""


class Tally:
    """Counts runs, and the time that they will take.

    Args:
        names: Of the runs that are still to be made.
        done: How many have ended before.
    """

    def __init__(self, names: Sequence[str], done: int) -> None:
        self.names, self.done, self.total = names, done, done + len(names)
        self.fractions: dict[int, float] = {}
        self.over: set[int] = set()
        self._first: dict[int, float] = {}
        self._begin = perf_counter()

    def update(self, index: int, fraction: float) -> None:
        """Note how far a run is; one that goes on from a checkpoint begins above 0."""
        self._first.setdefault(index, min(fraction, 1.0))
        self.fractions[index] = min(fraction, 1.0)

    def end(self, index: int) -> None:
        """Note that a run has ended."""
        self._first.setdefault(index, 0.0)
        self.fractions[index] = 1.0
        self.over.add(index)

    @property
    def running(self) -> list[int]:
        """The runs under way."""
        return [index for index in self.fractions if index not in self.over]

    @property
    def share(self) -> float:
        """The work done, in runs, with those that had ended before."""
        return self.done + sum(self.fractions.values())

    def seconds_left(self) -> float | None:
        """An estimate at the speed so far; None before there is one, and when nothing is left."""
        made = sum(self.fractions.values()) - sum(self._first.values())
        if made <= 0.0 or self.done + len(self.over) == self.total:
            return None
        return (perf_counter() - self._begin) / made * (self.total - self.share)

    def line(self) -> str:
        """All of it in words."""
        left = self.seconds_left()
        time = "" if left is None else f", {clock(left)} left"
        ended = self.done + len(self.over)
        part = self.share / max(self.total, 1)
        return f"{ended} of {self.total} ended, {len(self.running)} running, {part:.0%} done{time}"


class Lines:
    """A line for each run that ends, and now and then one for all of them."""

    def __init__(self, tally: Tally) -> None:
        self._tally, self._last = tally, perf_counter()

    def update(self, index: int, fraction: float) -> None:
        """Write a line if there was none for a while."""
        self._tally.update(index, fraction)
        if perf_counter() - self._last > LINE_SECONDS:
            self._write(self._tally.line())

    def ended(self, index: int, line: str) -> None:
        """Write the run's line."""
        self._tally.end(index)
        ended, total = self._tally.done + len(self._tally.over), self._tally.total
        left = self._tally.seconds_left()
        time = "" if left is None else f" ({clock(left)} left)"
        self._write(f"[{ended}/{total}] {line}{time}")

    def _write(self, line: str) -> None:
        self._last = perf_counter()
        print(line, file=sys.stderr, flush=True)


class Bars:
    """A bar for all runs, and one for each that is under way."""

    def __init__(self, tally: Tally, bar: Progress) -> None:
        self._tally, self._bar = tally, bar
        self._all = bar.add_task("all runs", total=tally.total, completed=tally.done, note="")
        self._each: dict[int, TaskID] = {}
        self._show()

    def update(self, index: int, fraction: float) -> None:
        """Move a run's bar."""
        self._tally.update(index, fraction)
        if index not in self._each and len(self._each) < BARS and index not in self._tally.over:
            name = self._tally.names[index]
            self._each[index] = self._bar.add_task(name, total=1.0, note="")
        if index in self._each:
            self._bar.update(self._each[index], completed=fraction, note=f"{fraction:.0%}")
        self._show()

    def ended(self, index: int, line: str) -> None:
        """Write the run's line, and take its bar away."""
        self._tally.end(index)
        if index in self._each:
            self._bar.remove_task(self._each.pop(index))
        self._bar.console.print(line, highlight=False, markup=False)
        self._show()

    def _show(self) -> None:
        note = f"{self._tally.done + len(self._tally.over)}/{self._tally.total}"
        self._bar.update(self._all, completed=self._tally.share, note=note)


@contextmanager
def overview(names: Sequence[str], done: int, *, progress: bool) -> Iterator[Overview]:
    """What shows the runs of a sweep while the block lasts.

    Args:
        names: Of the runs to be made, by their index.
        done: How many have ended before.
        progress: Whether to show anything.
    """
    console = Console(stderr=True)
    if not progress:
        yield Nothing()
    elif console.is_terminal:
        with bars(console) as bar:
            yield Bars(Tally(names, done), bar)
    else:
        yield Lines(Tally(names, done))


def bars(console: Console) -> Progress:
    """The bars' columns."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        expand=True,
    )


def clock(seconds: float) -> str:
    """Seconds as a person says them.

    >>> clock(12.3), clock(75), clock(7380)
    ('12 s', '1 min 15 s', '2 h 3 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
